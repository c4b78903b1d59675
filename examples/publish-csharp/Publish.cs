// Publishes the job in a file to Aethelos over NATS and waits for its receipt. The standard library only; for .NET and for Mono.
//   mcs Publish.cs && mono Publish.exe FILE [NATS_URL USER PASSWORD_FILE]     (or the environment: NATS_URL, NATS_USER, NATS_PASSWORD_FILE, KEY)
// A submission is safe once its receipt is there, and not before: until then it is repeated under the same key, which never makes a second job.
using System;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;

static class Publish
{
    // As much of the NATS text protocol as a publisher needs.
    class Bus
    {
        readonly NetworkStream stream;
        readonly MemoryStream line = new MemoryStream();

        public Bus(string url, string user, string password)
        {
            var address = new Uri(url);
            stream = new TcpClient(address.Host, address.Port < 0 ? 4222 : address.Port).GetStream();
            Send("CONNECT {\"user\":\"" + user + "\",\"pass\":\"" + password
                + "\",\"verbose\":false,\"pedantic\":false,\"headers\":true,\"lang\":\"csharp\",\"version\":\"1\"}\r\n");
        }

        public void Send(byte[] data) { stream.Write(data, 0, data.Length); }
        public void Send(string text) { Send(Encoding.UTF8.GetBytes(text)); }

        byte[] Take(int length)
        {
            var all = new byte[length];
            for (int have = 0, n; have < length; have += n)
                if ((n = stream.Read(all, have, length - have)) <= 0) throw new IOException("the broker closed the connection");
            return all;
        }

        // The next message; null when the line of none has come by then: what came of it is kept.
        public string Message(DateTime until)
        {
            while (true)
            {
                stream.ReadTimeout = Math.Max(1, (int)(until - DateTime.UtcNow).TotalMilliseconds);
                int c;
                try { c = Take(1)[0]; }
                catch (IOException e) when (e.InnerException is SocketException && ((SocketException)e.InnerException).SocketErrorCode != SocketError.ConnectionReset)
                {
                    if (DateTime.UtcNow >= until.AddMilliseconds(-5)) return null;
                    throw;
                }
                if (c != '\n')
                {
                    line.WriteByte((byte)c);
                    continue;
                }
                var word = Encoding.UTF8.GetString(line.ToArray()).Trim().Split(new[] { ' ' }, StringSplitOptions.RemoveEmptyEntries);
                line.SetLength(0);
                if (word[0] == "PING") Send("PONG\r\n");
                if (word[0] == "-ERR") throw new IOException(string.Join(" ", word));
                if (word[0] != "MSG" && word[0] != "HMSG") continue;
                // The last number is the length of all; in HMSG the one before is that of the headers.
                int length = int.Parse(word[word.Length - 1]), skip = word[0] == "HMSG" ? int.Parse(word[word.Length - 2]) : 0;
                stream.ReadTimeout = 5000;
                return Encoding.UTF8.GetString(Take(length + 2), skip, length - skip);
            }
        }
    }

    static string Argument(string[] args, int n, string name)
    {
        var value = args.Length > n ? args[n] : Environment.GetEnvironmentVariable(name);
        if (!string.IsNullOrEmpty(value)) return value;
        Console.Error.WriteLine("usage: Publish FILE [NATS_URL USER PASSWORD_FILE]");
        Environment.Exit(2);
        return null;
    }

    static int Main(string[] args)
    {
        var job = File.ReadAllBytes(Argument(args, 0, "FILE"));
        string url = Argument(args, 1, "NATS_URL"), user = Argument(args, 2, "NATS_USER");
        var password = File.ReadAllText(Argument(args, 3, "NATS_PASSWORD_FILE")).Trim();
        var key = Environment.GetEnvironmentVariable("KEY");
        if (string.IsNullOrEmpty(key)) key = Guid.NewGuid().ToString();
        Console.Error.WriteLine("key " + key);
        var head = "NATS/1.0\r\nIdempotency-Key: " + key + "\r\nContent-Type: application/json\r\n\r\n";
        var bus = new Bus(url, user, password);
        // Listening begins before the first submission, or a quick receipt would be missed.
        bus.Send("SUB aethelos.receipt.default." + key + " 1\r\n");
        for (int wait = 1; wait <= 32; wait *= 2)
        {
            bus.Send("HPUB aethelos.job.submit.default " + head.Length + " " + (head.Length + job.Length) + "\r\n" + head);
            bus.Send(job);
            bus.Send("\r\n");
            var receipt = bus.Message(DateTime.UtcNow.AddSeconds(wait));
            if (receipt == null) continue;
            Console.WriteLine(receipt);
            return Regex.IsMatch(receipt, "\"status\": ?\"accepted\"") ? 0 : 1;
        }
        Console.Error.WriteLine("no receipt yet; run it again with KEY=" + key);
        return 1;
    }
}

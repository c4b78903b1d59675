// A worker of an Aethelos operator on the bus for short work: it counts the bytes of input.text and answers at once. The standard library only; for
// .NET and for Mono.
//   mcs Worker.cs && mono Worker.exe OPERATOR NATS_URL USER PASSWORD_FILE     (`./aethelos operators worker OPERATOR` prints the last three)
// Run as many as you like; each call goes to one of them. Asked about a run, or given it again, it answers what it has answered while it lives.
using System;
using System.Collections.Generic;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;

static class Worker
{
    static Stream input, output;

    static void Send(string text)
    {
        var data = Encoding.UTF8.GetBytes(text);
        output.Write(data, 0, data.Length);
        output.Flush();
    }

    static byte[] Take(int length)
    {
        var all = new byte[length];
        for (int have = 0, n; have < length; have += n)
            if ((n = input.Read(all, have, length - have)) <= 0) throw new IOException("the broker closed the connection");
        return all;
    }

    static string Line()
    {
        var line = new List<byte>();
        for (byte c; (c = Take(1)[0]) != '\n';) line.Add(c);
        return Encoding.UTF8.GetString(line.ToArray()).Trim();
    }

    // Enough for texts without escapes; use a JSON library for more.
    static string Answer(string call)
    {
        var text = Regex.Match(call, "\"input\":\\s*\\{\\s*\"text\":\\s*\"([^\"\\\\]*)\"\\s*\\}");
        return text.Success ? "{\"status\":\"done\",\"output\":{\"bytes\":" + Encoding.UTF8.GetByteCount(text.Groups[1].Value) + "}}"
            : "{\"status\":\"failed\",\"error\":\"a text without quotes and backslashes is wanted\",\"refused\":true}";
    }

    static int Main(string[] args)
    {
        if (args.Length != 4)
        {
            Console.Error.WriteLine("usage: Worker OPERATOR NATS_URL USER PASSWORD_FILE");
            return 2;
        }
        var address = new Uri(args[1]);
        output = new TcpClient(address.Host, address.Port < 0 ? 4222 : address.Port).GetStream();
        input = new BufferedStream(output);
        Send("CONNECT {\"user\":\"" + args[2] + "\",\"pass\":\"" + File.ReadAllText(args[3]).Trim()
            + "\",\"verbose\":false,\"pedantic\":false,\"headers\":true,\"lang\":\"csharp\",\"version\":\"1\"}\r\n");
        Send("SUB aethelos.operator." + args[0] + " " + args[0] + " 1\r\nSUB aethelos.operator." + args[0] + ".status 2\r\n");
        var answers = new Dictionary<string, string>();
        while (true)
        {
            var word = Line().Split(new[] { ' ' }, StringSplitOptions.RemoveEmptyEntries);
            if (word[0] == "PING") Send("PONG\r\n");
            if (word[0] == "-ERR") throw new IOException(string.Join(" ", word));
            if (word[0] != "MSG" && word[0] != "HMSG") continue;
            // Subject, subscription, where to answer; the last number is the length of all; in HMSG the one before is that of the headers.
            int length = int.Parse(word[word.Length - 1]), skip = word[0] == "HMSG" ? int.Parse(word[word.Length - 2]) : 0;
            var call = Encoding.UTF8.GetString(Take(length + 2), skip, length - skip);
            string run = Regex.Match(call, "\"run_id\":\\s*\"([0-9a-f-]*)\"").Groups[1].Value, answer;
            if (!answers.TryGetValue(run, out answer))
            {
                if (word[2] == "2") continue; // a question about a run of another worker
                answers[run] = answer = Answer(call);
            }
            Send("PUB " + word[3] + " " + Encoding.UTF8.GetByteCount(answer) + "\r\n" + answer + "\r\n");
        }
    }
}

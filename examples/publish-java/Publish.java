// Publishes the job in a file to Aethelos over NATS and waits for its receipt. Java 17 or newer, its standard library only.
//   java Publish.java FILE [NATS_URL USER PASSWORD_FILE]     (or the environment: NATS_URL, NATS_USER, NATS_PASSWORD_FILE, KEY)
// A submission is safe once its receipt is there, and not before: until then it is repeated under the same key, which never makes a second job.

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.UUID;

public class Publish {
    /** As much of the NATS text protocol as a publisher needs. */
    static class Bus {
        final Socket socket;
        final ByteArrayOutputStream line = new ByteArrayOutputStream();

        Bus(String url, String user, String password) throws IOException {
            URI address = URI.create(url);
            socket = new Socket(address.getHost(), address.getPort() < 0 ? 4222 : address.getPort());
            send(("CONNECT {\"user\":\"" + user + "\",\"pass\":\"" + password
                + "\",\"verbose\":false,\"pedantic\":false,\"headers\":true,\"lang\":\"java\",\"version\":\"1\"}\r\n").getBytes(StandardCharsets.UTF_8));
        }

        void send(byte[]... parts) throws IOException {
            ByteArrayOutputStream all = new ByteArrayOutputStream();
            for (byte[] part : parts) all.write(part);
            socket.getOutputStream().write(all.toByteArray());
        }

        /** The body of the next message; SocketTimeoutException when the line of none has come by then: what came of it is kept. */
        byte[] message(long untilMs) throws IOException {
            while (true) {
                socket.setSoTimeout((int) Math.max(1, untilMs - System.currentTimeMillis()));
                int c = socket.getInputStream().read();
                if (c < 0) throw new IOException("the broker closed the connection");
                if (c != '\n') {
                    line.write(c);
                    continue;
                }
                String[] word = line.toString(StandardCharsets.UTF_8).trim().split(" +");
                line.reset();
                if (word[0].equals("PING")) send("PONG\r\n".getBytes());
                if (word[0].equals("-ERR")) throw new IOException(String.join(" ", word));
                if (!word[0].equals("MSG") && !word[0].equals("HMSG")) continue;
                // The last number is the length of all; in HMSG the one before is that of the headers.
                int length = Integer.parseInt(word[word.length - 1]), skip = word[0].equals("HMSG") ? Integer.parseInt(word[word.length - 2]) : 0;
                socket.setSoTimeout(5000);
                byte[] all = socket.getInputStream().readNBytes(length + 2);
                return java.util.Arrays.copyOfRange(all, skip, length);
            }
        }
    }

    static String argument(String[] args, int n, String name) {
        String value = args.length > n ? args[n] : System.getenv(name);
        if (value != null && !value.isEmpty()) return value;
        System.err.println("usage: java Publish.java FILE [NATS_URL USER PASSWORD_FILE]");
        System.exit(2);
        return null;
    }

    public static void main(String[] args) throws IOException {
        byte[] job = Files.readAllBytes(Path.of(argument(args, 0, "FILE")));
        String url = argument(args, 1, "NATS_URL"), user = argument(args, 2, "NATS_USER");
        String password = Files.readString(Path.of(argument(args, 3, "NATS_PASSWORD_FILE"))).trim();
        String given = System.getenv("KEY"), key = given != null && !given.isEmpty() ? given : UUID.randomUUID().toString();
        System.err.println("key " + key);
        byte[] head = ("NATS/1.0\r\nIdempotency-Key: " + key + "\r\nContent-Type: application/json\r\n\r\n").getBytes(StandardCharsets.UTF_8);
        Bus bus = new Bus(url, user, password);
        // Listening begins before the first submission, or a quick receipt would be missed.
        bus.send(("SUB aethelos.receipt.default." + key + " 1\r\n").getBytes());
        for (int wait = 1; wait <= 32; wait *= 2) {
            bus.send(("HPUB aethelos.job.submit.default " + head.length + " " + (head.length + job.length) + "\r\n").getBytes(), head, job, "\r\n".getBytes());
            try {
                String receipt = new String(bus.message(System.currentTimeMillis() + wait * 1000), StandardCharsets.UTF_8);
                System.out.println(receipt);
                System.exit(receipt.matches("(?s).*\"status\": ?\"accepted\".*") ? 0 : 1);
            } catch (SocketTimeoutException e) {
                continue;
            }
        }
        System.err.println("no receipt yet; run it again with KEY=" + key);
        System.exit(1);
    }
}

// A worker of an Aethelos operator on the bus for short work: it counts the bytes of input.text and answers at once. Java 17 or newer, its standard
// library only.
//   java Worker.java OPERATOR NATS_URL USER PASSWORD_FILE     (`./aethelos operators worker OPERATOR` prints the last three)
// Run as many as you like; each call goes to one of them. Asked about a run, or given it again, it answers what it has answered while it lives.

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Worker {
    // Enough for texts without escapes; use a JSON library for more.
    static final Pattern TEXT = Pattern.compile("\"input\":\\s*\\{\\s*\"text\":\\s*\"([^\"\\\\]*)\"\\s*\\}");

    static final Pattern RUN = Pattern.compile("\"run_id\":\\s*\"([0-9a-f-]*)\"");
    static final Map<String, String> ANSWERS = new HashMap<>();

    // null: a question about a run of another worker.
    static String recall(String call, boolean question) {
        Matcher run = RUN.matcher(call);
        if (!run.find()) return question ? null : answer(call);
        if (!question) ANSWERS.computeIfAbsent(run.group(1), id -> answer(call));
        return ANSWERS.get(run.group(1));
    }

    static String answer(String call) {
        Matcher text = TEXT.matcher(call);
        return text.find() ? "{\"status\":\"done\",\"output\":{\"bytes\":" + text.group(1).getBytes(StandardCharsets.UTF_8).length + "}}"
            : "{\"status\":\"failed\",\"error\":\"a text without quotes and backslashes is wanted\",\"refused\":true}";
    }

    static void send(OutputStream out, String text) throws IOException {
        out.write(text.getBytes(StandardCharsets.UTF_8));
        out.flush();
    }

    static String line(InputStream in) throws IOException {
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        for (int c = in.read(); c != '\n'; c = in.read()) {
            if (c < 0) throw new IOException("the broker closed the connection");
            line.write(c);
        }
        return line.toString(StandardCharsets.UTF_8).trim();
    }

    public static void main(String[] args) throws IOException {
        if (args.length != 4) {
            System.err.println("usage: java Worker.java OPERATOR NATS_URL USER PASSWORD_FILE");
            System.exit(2);
        }
        URI address = URI.create(args[1]);
        String password = Files.readString(Path.of(args[3])).trim();
        Socket socket = new Socket(address.getHost(), address.getPort() < 0 ? 4222 : address.getPort());
        InputStream in = new java.io.BufferedInputStream(socket.getInputStream());
        OutputStream out = socket.getOutputStream();
        send(out, "CONNECT {\"user\":\"" + args[2] + "\",\"pass\":\"" + password
            + "\",\"verbose\":false,\"pedantic\":false,\"headers\":true,\"lang\":\"java\",\"version\":\"1\"}\r\n");
        send(out, "SUB aethelos.operator." + args[0] + " " + args[0] + " 1\r\nSUB aethelos.operator." + args[0] + ".status 2\r\n");
        while (true) {
            String[] word = line(in).split(" +");
            if (word[0].equals("PING")) send(out, "PONG\r\n");
            if (word[0].equals("-ERR")) throw new IOException(String.join(" ", word));
            if (!word[0].equals("MSG") && !word[0].equals("HMSG")) continue;
            // Subject, subscription, where to answer; the last number is the length of all; in HMSG the one before is that of the headers.
            int length = Integer.parseInt(word[word.length - 1]), skip = word[0].equals("HMSG") ? Integer.parseInt(word[word.length - 2]) : 0;
            byte[] all = in.readNBytes(length + 2);
            String answer = recall(new String(all, skip, length - skip, StandardCharsets.UTF_8), word[2].equals("2"));
            if (answer != null) send(out, "PUB " + word[3] + " " + answer.getBytes(StandardCharsets.UTF_8).length + "\r\n" + answer + "\r\n");
        }
    }
}

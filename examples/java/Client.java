// Java's HttpClient through Moorgate.
//
//   java examples/java/Client.java http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees.

import java.io.IOException;
import java.net.Authenticator;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.Set;
import java.util.UUID;

public final class Client {
    private static final Set<Integer> BLOCKED = Set.of(401, 403, 429);

    private final URI proxy;
    private final URI target;
    private final String user;
    private final String secret;

    private Client(URI proxy, URI target) {
        this.proxy = proxy;
        this.target = target;
        String[] credential = proxy.getUserInfo().split(":", 2);
        this.user = credential[0];
        this.secret = credential[1];
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 2) {
            System.err.println("usage: java Client.java http://USER:SECRET@HOST:PORT TARGET_URL");
            System.exit(2);
        }
        // Java does not send a Basic credential for a tunnel unless this is
        // empty, and reads it once: here, or by -D on the command line.
        System.setProperty("jdk.http.auth.tunneling.disabledSchemes", "");
        new Client(URI.create(arguments[0]), URI.create(arguments[1])).run();
    }

    private void run() throws Exception {
        // A session is made by its name: two requests with one name have one exit.
        String session = user + "-session-" + UUID.randomUUID() + "-ttl-10m";
        System.out.println("sticky: " + get(session) + " " + get(session));

        // Where the site has had enough of that exit by now, the session moves.
        System.out.println("renewed: " + fetch(session));

        // Without a session, each request leaves by the next exit of the pool.
        System.out.println("rotating: " + get(user) + " " + get(user));
    }

    /** A page of a session; blocked, its exit is reported, and it is asked for again by another. */
    private String fetch(String session) throws IOException, InterruptedException {
        for (int tries = 0; tries < 3; tries++) {
            HttpResponse<String> response = ask(session, HttpRequest.newBuilder(target));
            if (!BLOCKED.contains(response.statusCode())) {
                return response.body().strip();
            }
            report(session, "status " + response.statusCode());
        }
        throw new IOException(target + " blocks every exit that was tried");
    }

    private String get(String username) throws IOException, InterruptedException {
        HttpResponse<String> response = ask(username, HttpRequest.newBuilder(target));
        if (response.statusCode() != 200) {
            throw new IOException(target + " answered " + response.statusCode());
        }
        return response.body().strip();
    }

    /** Says that the session's exit is no good for the target: the session moves. */
    private void report(String session, String reason) throws IOException, InterruptedException {
        String body = "{\"target\": \"" + target + "\", \"reason\": \"" + reason + "\"}";
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://moorgate.internal/session/report"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body));
        HttpResponse<String> response = ask(session, request);
        if (response.statusCode() != 200) {
            throw new IOException("the gateway refused: " + response.body());
        }
    }

    /**
     * One request under this proxy username. A client remembers one credential for a proxy, and keeps tunnels,
     * which keep their exit: so each has a client of its own.
     */
    private HttpResponse<String> ask(String username, HttpRequest.Builder request)
        throws IOException, InterruptedException {
        HttpClient client = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())))
            // Java waits for the gateway's 407 before it asks for this.
            .authenticator(new Authenticator() {
                @Override
                protected PasswordAuthentication getPasswordAuthentication() {
                    return new PasswordAuthentication(username, secret.toCharArray());
                }
            })
            .build();
        HttpResponse<String> response =
            client.send(request.timeout(Duration.ofSeconds(30)).build(), BodyHandlers.ofString());
        response.headers().firstValue("Moorgate-Error").ifPresent(code -> {
            throw new IllegalStateException("the gateway refused: " + code);
        });
        return response;
    }
}

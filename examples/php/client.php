#!/usr/bin/env php
<?php
// PHP with curl through Moorgate.
//
//   php examples/php/client.php http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees. Debian: php-cli,
// php-curl.
declare(strict_types=1);

const BLOCKED = [401, 403, 429];

if ($argc !== 3) {
    fwrite(STDERR, "usage: php client.php http://USER:SECRET@HOST:PORT TARGET_URL\n");
    exit(2);
}
$proxy = parse_url($argv[1]);
$target = $argv[2];
$user = $proxy['user'];

/** One request under this proxy username: status and text. */
function ask(string $username, string $url, ?array $body = null): array
{
    global $proxy;
    // A handle that is used again may keep a tunnel, which keeps its exit:
    // each request has one of its own.
    $curl = curl_init($url);
    curl_setopt_array($curl, [
        CURLOPT_PROXY => "http://{$proxy['host']}:{$proxy['port']}",
        // curl percent-decodes what stands in CURLOPT_PROXYUSERPWD; not here.
        CURLOPT_PROXYUSERNAME => $username,
        CURLOPT_PROXYPASSWORD => $proxy['pass'],
        CURLOPT_NOPROXY => '',
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 30,
    ]);
    if ($body !== null) {
        curl_setopt($curl, CURLOPT_POSTFIELDS, json_encode($body, JSON_THROW_ON_ERROR));
        curl_setopt($curl, CURLOPT_HTTPHEADER, ['Content-Type: application/json']);
    }
    $text = curl_exec($curl);
    if ($text === false) {
        throw new RuntimeException(curl_error($curl));
    }
    return [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), trim($text)];
}

function get(string $username): string
{
    global $target;
    [$status, $text] = ask($username, $target);
    if ($status !== 200) {
        throw new RuntimeException("$target answered $status: $text");
    }
    return $text;
}

/** A page of a session; blocked, its exit is reported, and it is asked for again by another. */
function fetch(string $session): string
{
    global $target;
    for ($tries = 0; $tries < 3; $tries++) {
        [$status, $text] = ask($session, $target);
        if (!in_array($status, BLOCKED, true)) {
            return $text;
        }
        $report = ['target' => $target, 'reason' => "status $status"];
        [$status, $text] = ask($session, 'http://moorgate.internal/session/report', $report);
        if ($status !== 200) {
            throw new RuntimeException("the gateway refused: $text");
        }
    }
    throw new RuntimeException("$target blocks every exit that was tried");
}

// A session is made by its name: two requests with one name have one exit.
$session = "$user-session-" . bin2hex(random_bytes(8)) . '-ttl-10m';
echo 'sticky: ', get($session), ' ', get($session), "\n";

// Where the site has had enough of that exit by now, the session moves.
echo 'renewed: ', fetch($session), "\n";

// Without a session, each request leaves by the next exit of the pool.
echo 'rotating: ', get($user), ' ', get($user), "\n";

// Go's net/http through Moorgate.
//
//	cd examples/go && go run . http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatalf("usage: %s http://USER:SECRET@HOST:PORT TARGET_URL", os.Args[0])
	}
	proxy, err := url.Parse(os.Args[1])
	if err != nil || proxy.User == nil {
		log.Fatal("the proxy is a URL with a user and a secret")
	}
	target, user := os.Args[2], proxy.User.Username()

	// A session is made by its name: two requests with one name have one exit.
	sticky := user + "-session-" + randomID() + "-ttl-10m"
	fmt.Println("sticky:", get(proxy, sticky, target), get(proxy, sticky, target))

	// Where the site has had enough of that exit by now, the session moves.
	fmt.Println("renewed:", fetch(proxy, sticky, target))

	// Without a session, each request leaves by the next exit of the pool.
	fmt.Println("rotating:", get(proxy, user, target), get(proxy, user, target))
}

// fetch gets a page of a session. Blocked, its exit is reported, the session
// moves, and the page is asked for again.
func fetch(proxy *url.URL, username, target string) string {
	for tries := 0; tries < 3; tries++ {
		status, body := ask(proxy, username, http.MethodGet, target, nil)
		switch status {
		case http.StatusOK:
			return body
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
			report(proxy, username, target, fmt.Sprint("status ", status))
		default:
			log.Fatalf("%s answered %d", target, status)
		}
	}
	log.Fatalf("%s blocks every exit that was tried", target)
	return ""
}

func get(proxy *url.URL, username, target string) string {
	status, body := ask(proxy, username, http.MethodGet, target, nil)
	if status != http.StatusOK {
		log.Fatalf("%s answered %d", target, status)
	}
	return body
}

// report says that the session's exit is no good for the target. The session
// moves to another exit at once, and for a while nobody's new session or
// rotating request uses the old one for that site.
func report(proxy *url.URL, username, target, reason string) {
	body, err := json.Marshal(map[string]string{"target": target, "reason": reason})
	if err != nil {
		log.Fatal(err)
	}
	status, answer := ask(proxy, username, http.MethodPost, "http://moorgate.internal/session/report", body)
	if status != http.StatusOK {
		log.Fatalf("the gateway refused: %s", answer)
	}
}

// ask makes one request under this proxy username. It keeps no connection: a
// tunnel to an https target keeps its exit for as long as it is open.
func ask(proxy *url.URL, username, method, target string, body []byte) (int, string) {
	secret, _ := proxy.User.Password()
	through := *proxy
	through.User = url.UserPassword(username, secret)
	client := http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{Proxy: http.ProxyURL(&through), DisableKeepAlives: true},
	}
	request, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		// Of a refused tunnel Go shows the reason phrase, which names the
		// code: "Service Unavailable: exit_down".
		log.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	if code := response.Header.Get("Moorgate-Error"); code != "" {
		log.Fatalf("the gateway refused (%s): %s", code, answer)
	}
	return response.StatusCode, strings.TrimSpace(string(answer))
}

func randomID() string {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		log.Fatal(err)
	}
	return hex.EncodeToString(id)
}

// Go's net/http through Moorgate.
//
//	cd examples/go && go run . http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees.
package main

import (
	"crypto/rand"
	"encoding/hex"
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

	// Without a session, each request leaves by the next exit of the pool.
	fmt.Println("rotating:", get(proxy, user, target), get(proxy, user, target))
}

// get makes one request under this proxy username. It keeps no connection: a
// tunnel to an https target keeps its exit for as long as it is open.
func get(proxy *url.URL, username, target string) string {
	secret, _ := proxy.User.Password()
	through := *proxy
	through.User = url.UserPassword(username, secret)
	client := http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{Proxy: http.ProxyURL(&through), DisableKeepAlives: true},
	}
	response, err := client.Get(target)
	if err != nil {
		// Of a refused tunnel Go shows the reason phrase, which names the
		// code: "Service Unavailable: exit_down".
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		log.Fatalf("%s: %s", response.Status, response.Header.Get("Moorgate-Error"))
	}
	return strings.TrimSpace(string(body))
}

func randomID() string {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		log.Fatal(err)
	}
	return hex.EncodeToString(id)
}

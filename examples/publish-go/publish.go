// Publishes the job in a file to Aethelos over NATS and waits for its receipt. With the official client, github.com/nats-io/nats.go.
//
//	publish FILE [NATS_URL USER PASSWORD_FILE]     (or the environment: NATS_URL, NATS_USER, NATS_PASSWORD_FILE, KEY)
//
// A submission is safe once its receipt is there, and not before: until then it is repeated under the same key, which never makes a second job.
package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

func argument(n int, name string) string {
	if len(os.Args) > n {
		return os.Args[n]
	}
	return os.Getenv(name)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	file, url, user, passwordFile := argument(1, ""), argument(2, "NATS_URL"), argument(3, "NATS_USER"), argument(4, "NATS_PASSWORD_FILE")
	if file == "" || url == "" || user == "" || passwordFile == "" {
		fmt.Fprintln(os.Stderr, "usage: publish FILE [NATS_URL USER PASSWORD_FILE]")
		os.Exit(2)
	}
	job, err := os.ReadFile(file)
	must(err)
	password, err := os.ReadFile(passwordFile)
	must(err)
	key := os.Getenv("KEY")
	if key == "" {
		random := make([]byte, 16)
		_, err = rand.Read(random)
		must(err)
		key = fmt.Sprintf("%x", random)
	}
	fmt.Fprintln(os.Stderr, "key", key)

	nc, err := nats.Connect(url, nats.UserInfo(user, strings.TrimSpace(string(password))), nats.Name("publish-go"))
	must(err)
	defer nc.Close()
	// Listening begins before the first submission, or a quick receipt would be missed.
	receipts, err := nc.SubscribeSync("aethelos.receipt.default." + key)
	must(err)
	submission := nats.NewMsg("aethelos.job.submit.default")
	submission.Data = job
	submission.Header["Idempotency-Key"] = []string{key}
	submission.Header["Content-Type"] = []string{"application/json"}
	for wait := time.Second; wait <= 32*time.Second; wait *= 2 {
		must(nc.PublishMsg(submission))
		msg, err := receipts.NextMsg(wait)
		if err != nil {
			continue
		}
		var receipt struct{ Status string }
		must(json.Unmarshal(msg.Data, &receipt))
		fmt.Println(string(msg.Data))
		if receipt.Status != "accepted" {
			os.Exit(1)
		}
		return
	}
	fmt.Fprintln(os.Stderr, "no receipt yet; run it again with KEY="+key)
	os.Exit(1)
}

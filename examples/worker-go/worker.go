// A worker of an Aethelos operator on the bus: it turns input.text round, and takes its time. With the official client, github.com/nats-io/nats.go.
//
//	worker OPERATOR NATS_URL USER PASSWORD_FILE     (`./aethelos operators worker OPERATOR` prints the last three)
//
// Run as many as you like. It accepts a run, says with every beat that it still has it, and says the result until it hears that it is committed.
// Asked about a run, or given it again, it answers what came of it, while it lives.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

type call struct {
	RunID string                `json:"run_id"`
	Token int64                 `json:"token"`
	Input struct{ Text string } `json:"input"`
}

type worker struct {
	nc            *nats.Conn
	subject, name string
	pause         time.Duration
	answers       sync.Map // of runs, in JSON
}

// say says one beat or result until it is answered: held, committed, or over.
func (w *worker) say(what string, c call, more map[string]any) string {
	more["run_id"], more["token"], more["worker"] = c.RunID, c.Token, w.name
	body, _ := json.Marshal(more)
	for {
		answer, err := w.nc.Request(w.subject+"."+what, body, 2*time.Second)
		var said struct{ Status string }
		if err == nil && json.Unmarshal(answer.Data, &said) == nil {
			return said.Status
		}
		time.Sleep(200 * time.Millisecond) // nobody there, or no answer in time
	}
}

func (w *worker) work(c call) {
	for percent := 25; percent < 100; percent += 25 {
		time.Sleep(w.pause)
		if w.say("beat", c, map[string]any{"percent": percent, "progress": "turning"}) != "held" {
			w.answers.Delete(c.RunID)
			return // the run is not ours any more
		}
	}
	text := []rune(c.Input.Text)
	for i, j := 0, len(text)-1; i < j; i, j = i+1, j-1 {
		text[i], text[j] = text[j], text[i]
	}
	result := map[string]any{"status": "done", "output": map[string]string{"text": string(text)}}
	answer, _ := json.Marshal(result)
	w.answers.Store(c.RunID, answer) // before it is said: what is done is done once
	fmt.Println(c.RunID, w.say("result", c, result))
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: worker OPERATOR NATS_URL USER PASSWORD_FILE")
		os.Exit(2)
	}
	operator, url, user := os.Args[1], os.Args[2], os.Args[3]
	password, err := os.ReadFile(os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	host, _ := os.Hostname()
	seconds, err := strconv.ParseFloat(os.Getenv("WORK_SECONDS"), 64)
	if err != nil {
		seconds = 1
	}
	w := worker{subject: "aethelos.operator." + operator, name: fmt.Sprint(host, " ", os.Getpid()), pause: time.Duration(seconds * float64(time.Second) / 4)}
	w.nc, err = nats.Connect(url, nats.UserInfo(user, strings.TrimSpace(string(password))), nats.Name(w.name), nats.CustomInboxPrefix("_INBOX_"+user), nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	_, err = w.nc.QueueSubscribe(w.subject, operator, func(m *nats.Msg) {
		var c call
		if json.Unmarshal(m.Data, &c) != nil {
			_ = m.Respond([]byte(`{"status":"failed","error":"input.text is wanted","refused":true}`))
			return
		}
		if known, found := w.answers.LoadOrStore(c.RunID, []byte(`{"status":"running"}`)); found && string(known.([]byte)) != `{"status":"running"}` {
			_ = m.Respond(known.([]byte))
			return
		}
		accepted, _ := json.Marshal(map[string]string{"status": "accepted", "worker": w.name})
		if m.Respond(accepted) == nil {
			go w.work(c) // runs go on side by side
		} else {
			w.answers.Delete(c.RunID) // nobody works on it
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	// Every worker hears every question, and is silent about runs that it does not know.
	_, err = w.nc.Subscribe(w.subject+".status", func(m *nats.Msg) {
		var c call
		if json.Unmarshal(m.Data, &c) == nil {
			if answer, found := w.answers.Load(c.RunID); found {
				_ = m.Respond(answer.([]byte))
			}
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	select {}
}

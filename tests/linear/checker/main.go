// Reads a history, one operation a line, and says whether each session's is linear: some order of its operations, each at a moment between
// its call and its return, explains every answer. Porcupine searches for that order.
//
//	{"session": "ses_…", "client": 3, "call": 17, "return": 42, "op": "post", "text": "m7"}              acknowledged
//	{"session": "ses_…", "client": 3, "call": 17, "op": "post", "text": "m7"}                            never answered: it may take effect at any time, or never
//	{"session": "ses_…", "client": 4, "call": 20, "return": 30, "op": "get", "texts": ["m1", "m7"]}      what was read
//
// Times are any numbers on one clock. Exit status 1 and the sessions that are not linear on standard output; 2 for a history that cannot be read.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

type operation struct {
	Session string   `json:"session"`
	Client  int      `json:"client"`
	Call    int64    `json:"call"`
	Return  *int64   `json:"return"`
	Op      string   `json:"op"`
	Text    string   `json:"text"`
	Texts   []string `json:"texts"`
}

const between = "\x00"

// The state of a session is what was said in it, in order.
var conversation = porcupine.Model{
	Init: func() interface{} { return "" },
	Step: func(state, input, output interface{}) (bool, interface{}) {
		said := state.(string)
		in := input.(operation)
		if in.Op == "post" {
			return true, said + in.Text + between
		}
		return said == output.(string), said
	},
	Equal: func(a, b interface{}) bool { return a == b },
}

// A conversation only grows. So a post without an end that no read shows comes after all reads, and may as well be left out; one that a read
// shows took effect before that read returned. Both change no verdict, and keep the search from trying such posts everywhere.
func prepared(operations []operation) []porcupine.Operation {
	seen := map[string]int64{}
	for _, one := range operations {
		for _, text := range one.Texts {
			if before, known := seen[text]; one.Return != nil && (!known || *one.Return < before) {
				seen[text] = *one.Return
			}
		}
	}
	history := []porcupine.Operation{}
	for _, one := range operations {
		var end int64
		if one.Return != nil {
			end = *one.Return
		} else if first, known := seen[one.Text]; known && one.Op == "post" {
			end = first
		} else {
			continue
		}
		read := ""
		for _, text := range one.Texts {
			read += text + between
		}
		history = append(history, porcupine.Operation{ClientId: one.Client, Input: one, Call: one.Call, Output: read, Return: end})
	}
	return history
}

func main() {
	bySession := map[string][]operation{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var one operation
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil || (one.Op != "post" && one.Op != "get") {
			fmt.Fprintln(os.Stderr, "not an operation:", lines.Text(), err)
			os.Exit(2)
		}
		bySession[one.Session] = append(bySession[one.Session], one)
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	count := 0
	wrong := []string{}
	for session, operations := range bySession {
		history := prepared(operations)
		count += len(history)
		if result := porcupine.CheckOperationsTimeout(conversation, history, 60*time.Second); result != porcupine.Ok {
			wrong = append(wrong, fmt.Sprintf("%s: %s (%d operations)", session, map[porcupine.CheckResult]string{porcupine.Illegal: "not linear", porcupine.Unknown: "not decided in time"}[result], len(history)))
		}
	}
	sort.Strings(wrong)
	fmt.Printf("%d operations in %d sessions\n", count, len(bySession))
	if len(wrong) > 0 {
		fmt.Println(strings.Join(wrong, "\n"))
		os.Exit(1)
	}
}

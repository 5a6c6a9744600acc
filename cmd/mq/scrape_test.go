package main

import (
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var metricsURL = regexp.MustCompile(`http://\S+/metrics`)

// scrape prints the metrics of the broker whose log it is given: `scrape log`.
func scrape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: scrape FILE")
	}
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Get(metricsURL.FindString(ts.ReadFile(args[0])))
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	_, err = ts.Stdout().Write(text)
	ts.Check(err)
}

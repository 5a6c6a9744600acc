package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPacerKeepsTheRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		pace := newPacer(10)
		for range 11 {
			pace.wait(t.Context())
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("11 records at 10/s took %v", took)
		}
		time.Sleep(time.Hour) // held up, it catches up by one record and not by an hour's
		began = time.Now()
		for range 3 {
			pace.wait(t.Context())
		}
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("3 records after an hour took %v", took)
		}
	})
}

func TestPacerWithoutARateNeverWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		pace := newPacer(0)
		for range 1000 {
			pace.wait(t.Context())
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestPacerEndsItsWaitWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		pace := newPacer(1)
		pace.next = time.Now().Add(time.Hour)
		began := time.Now()
		pace.wait(ctx)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
	})
}

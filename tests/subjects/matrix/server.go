// A Go program that goes wrong in one known way when it is ordered to.
//
//	server MODE FOLDER PORT
//
//	handlers  every handler waits for a lock that one of them took and kept
//	one       one goroutine computes for ever, the others go on
//	all       as many goroutines as there are processors compute for ever
//	self      the goroutine that does the work locks what it has locked
//	healthy   nothing
//
// When the file `go` appears in the folder, it leaves `gone` there and goes into its mode. It serves its beat at the port, by a
// handler that takes the same lock as all others do.
package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

var (
	ledger sync.Mutex
	turns  int64
	work   int64
)

func ordered(folder string) bool {
	if os.Remove(filepath.Join(folder, "go")) != nil {
		return false
	}
	file, err := os.Create(filepath.Join(folder, "gone"))
	if err == nil {
		file.Close()
	}
	return err == nil
}

func computeForEver() {
	number := uint64(1)
	for {
		number = number * 48271 % 2147483647
		if number == 0 {
			return
		}
	}
}

func lockTheLedgerTwice() {
	ledger.Lock()
	ledger.Lock()
}

func goWrong(mode string) {
	switch mode {
	case "handlers":
		go lockTheLedgerTwice()
	case "self":
		lockTheLedgerTwice()
	case "one":
		go computeForEver()
	case "all":
		for i := 0; i < runtime.NumCPU(); i++ {
			go computeForEver()
		}
	}
}

func main() {
	mode, folder, port := os.Args[1], os.Args[2], os.Args[3]
	http.HandleFunc("/", func(out http.ResponseWriter, _ *http.Request) {
		ledger.Lock()
		defer ledger.Unlock()
		fmt.Fprintf(out, `{"schema":1,"seq":%d,"progress":{"work":%d}}`, atomic.LoadInt64(&turns), atomic.LoadInt64(&work))
	})
	if port != "0" {
		go http.ListenAndServe("127.0.0.1:"+port, nil)
	}
	for {
		time.Sleep(50 * time.Millisecond)
		atomic.AddInt64(&turns, 1)
		atomic.AddInt64(&work, 1)
		if ordered(folder) {
			goWrong(mode)
		}
	}
}

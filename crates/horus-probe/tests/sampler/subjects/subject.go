// A Go program: it waits for the next 20 ms alone, until it reads a line. Then one goroutine computes for ever, and the others go on.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"
)

func computeForEver() {
	number := uint64(1)
	for {
		number = number * 48271 % 2147483647
		if number == 0 {
			return
		}
	}
}

func main() {
	// One goroutine that computes then has all there is, as many would have elsewhere.
	runtime.GOMAXPROCS(1)
	// Somebody could come: then a thread waits for events.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(1)
	}
	go listener.Accept()
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		fmt.Println("spins")
		go computeForEver()
	}()
	fmt.Println("ready")
	for {
		time.Sleep(20 * time.Millisecond)
	}
}

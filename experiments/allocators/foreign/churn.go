// SPDX-License-Identifier: MIT
// Fills a heap, lets go of all but one object in so many, and waits while it is looked at.
//
//	go run churn.go MEBIBYTES KEEP_ONE_IN

package main

import (
	"fmt"
	"math/rand"
	"os"
	"runtime/debug"
	"strconv"
)

func say(word string) {
	fmt.Println(word)
	os.Stdin.Read(make([]byte, 1))
}

func main() {
	mebibytes, _ := strconv.Atoi(os.Args[1])
	keep, _ := strconv.Atoi(os.Args[2])
	chance := rand.New(rand.NewSource(1))
	say("start")
	var objects [][]byte
	for left := mebibytes << 20; left > 0; {
		one := make([]byte, 16+chance.Intn(993))
		for i := range one {
			one[i] = 1
		}
		left -= len(one)
		objects = append(objects, one)
	}
	say("full")
	var kept [][]byte
	for index := 0; index < len(objects); index += keep {
		kept = append(kept, objects[index])
	}
	objects = nil
	debug.FreeOSMemory()
	say("released")
	fmt.Println(len(kept))
}

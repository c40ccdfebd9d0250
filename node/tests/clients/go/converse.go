package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// No handshake may take longer, on cores as busy as they get in a test.
const handshakeLimit = 10 * time.Second

// A peer: who it has to be, and where it answers.
type peer struct {
	id      spiffeid.ID
	address string
}

// Speaks mutual TLS with peers for as long as standard input is open.
//
// Says `listening ADDRESS`; reads lines `ID ADDRESS`, one a peer, and then `begin`. From then on it answers all of them,
// and dials the next one every so many milliseconds, until it reads `quiet`: it says `quiet` when the last handshake is
// over, and answers on until standard input is closed. For each time that it dialled it says `ok MILLISECONDS`, or
// `failed BEGUN MILLISECONDS ID WHY` where BEGUN is a Unix time in milliseconds.
func converse(own, everyText string) error {
	every, err := strconv.Atoi(everyText)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	opening, opened := context.WithTimeout(ctx, patience)
	defer opened()
	client, err := workloadapi.New(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	source, err := workloadapi.NewX509Source(opening, workloadapi.WithClient(client))
	if err != nil {
		return err
	}
	defer source.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	fmt.Printf("listening %s\n", listener.Addr())
	input := bufio.NewScanner(os.Stdin)
	peers, ids, err := readPeers(input)
	if err != nil {
		return err
	}
	var answered atomic.Int64
	server := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeOneOf(ids...))
	server.SessionTicketsDisabled = true
	go answerAll(tls.NewListener(listener, server), own, &answered)
	quiet := make(chan struct{})
	go func() {
		for input.Scan() && input.Text() != "quiet" {
		}
		close(quiet)
		for input.Scan() {
		}
		cancel()
	}()
	dialAll(source, peers, time.Duration(every)*time.Millisecond, quiet)
	fmt.Println("quiet")
	<-ctx.Done()
	fmt.Printf("ended answered %d\n", answered.Load())
	return nil
}

// Dials one peer after the other until it is to be quiet, and waits for what is under way.
func dialAll(source *workloadapi.X509Source, peers []peer, every time.Duration, quiet <-chan struct{}) {
	pace := time.NewTicker(every)
	defer pace.Stop()
	var dialling sync.WaitGroup
	defer dialling.Wait()
	for turn := 0; ; turn++ {
		select {
		case <-quiet:
			return
		case <-pace.C:
			dialling.Add(1)
			go func() {
				defer dialling.Done()
				dialOnce(source, peers[turn%len(peers)])
			}()
		}
	}
}

func readPeers(input *bufio.Scanner) ([]peer, []spiffeid.ID, error) {
	var peers []peer
	var ids []spiffeid.ID
	for input.Scan() {
		words := strings.Fields(input.Text())
		if len(words) == 1 && words[0] == "begin" && len(peers) > 0 {
			return peers, ids, nil
		}
		if len(words) != 2 {
			break
		}
		id, err := spiffeid.FromString(words[0])
		if err != nil {
			return nil, nil, err
		}
		peers, ids = append(peers, peer{id, words[1]}), append(ids, id)
	}
	return nil, nil, fmt.Errorf("standard input: ID ADDRESS, one line a peer, and then begin")
}

func answerAll(listener net.Listener, own string, answered *atomic.Int64) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			// The one that dialled tells how it went.
			if _, err := answer(connection.(*tls.Conn), own); err == nil {
				answered.Add(1)
			}
		}()
	}
}

func dialOnce(source *workloadapi.X509Source, to peer) {
	begun := time.Now()
	err := func() error {
		config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(to.id))
		connection, err := tls.DialWithDialer(&net.Dialer{Timeout: handshakeLimit}, "tcp", to.address, config)
		if err != nil {
			return err
		}
		defer connection.Close()
		if err := connection.SetDeadline(begun.Add(handshakeLimit)); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(connection, "hello"); err != nil {
			return err
		}
		line, err := bufio.NewReader(connection).ReadString('\n')
		if err == nil && line != "hello from "+to.id.String()+"\n" {
			err = fmt.Errorf("it said %q", line)
		}
		return err
	}()
	took := time.Since(begun).Milliseconds()
	if err != nil {
		fmt.Printf("failed %d %d %s %s\n", begun.UnixMilli(), took, to.id, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Printf("ok %d\n", took)
}

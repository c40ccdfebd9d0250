// A workload that uses go-spiffe, as a stranger's program would. One command a run:
//
//	fetch ID                          SVID and bundles; the chain is verified with the library
//	renew ID SECONDS RENEWALS         at every instant a valid SVID; at least so many new ones
//	jwt ID AUDIENCE                   fetch; validate locally and by ValidateJWTSVID; a wrong audience is refused
//	serve ID PEER                     mutual TLS: answers PEER, once, after refusing whoever else comes
//	dial ADDRESS PEER                 mutual TLS: says hello to PEER
//	refused ADDRESS PEER              as dial, and the server must not answer
//	bundle URL DOMAIN ENDPOINT FILE   the bundle of a trust domain from its https_spiffe endpoint, see bundle.go
//	converse ID MILLISECONDS          mutual TLS without end, see converse.go
//
// The Workload API is found by SPIFFE_ENDPOINT_SOCKET. What went wrong is printed; the exit code says whether.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// No single step may take longer; a renewal adds the time it was asked to watch.
const patience = 30 * time.Second

// How often the watcher looks: far more often than anything expires.
const glance = 20 * time.Millisecond

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "go client:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: fetch|renew|jwt|serve|dial|refused|bundle|converse ...")
	}
	limit := patience
	if args[0] == "renew" && len(args) == 4 {
		seconds, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		limit += time.Duration(seconds) * time.Second
	}
	if args[0] == "converse" && len(args) == 3 {
		return converse(args[1], args[2])
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	switch {
	case args[0] == "fetch" && len(args) == 2:
		return fetch(ctx, args[1])
	case args[0] == "renew" && len(args) == 4:
		return renew(ctx, args[1], args[2], args[3])
	case args[0] == "jwt" && len(args) == 3:
		return jwt(ctx, args[1], args[2])
	case args[0] == "serve" && len(args) == 3:
		return serve(ctx, args[1], args[2])
	case args[0] == "dial" && len(args) == 3:
		return dial(ctx, args[1], args[2])
	case args[0] == "refused" && len(args) == 3:
		return refused(ctx, args[1], args[2])
	case args[0] == "bundle" && len(args) == 5:
		return bundle(ctx, args[1], args[2], args[3], args[4])
	default:
		return fmt.Errorf("cannot do %q", args)
	}
}

func fetch(ctx context.Context, want string) error {
	x509Context, err := workloadapi.FetchX509Context(ctx)
	if err != nil {
		return err
	}
	svid := x509Context.DefaultSVID()
	if svid.ID.String() != want {
		return fmt.Errorf("the default SVID is of %s, not of %s", svid.ID, want)
	}
	if _, _, err := x509svid.Verify(svid.Certificates, x509Context.Bundles); err != nil {
		return err
	}
	x509Bundles, err := workloadapi.FetchX509Bundles(ctx)
	if err != nil {
		return err
	}
	jwtBundles, err := workloadapi.FetchJWTBundles(ctx)
	if err != nil {
		return err
	}
	x509Bundle, err := x509Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return err
	}
	jwtBundle, err := jwtBundles.GetJWTBundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return err
	}
	if len(x509Bundle.X509Authorities()) == 0 || len(jwtBundle.JWTAuthorities()) == 0 {
		return errors.New("a bundle is empty")
	}
	fmt.Printf("fetched %s: chain of %d, %d X.509 and %d JWT authorities\n", svid.ID, len(svid.Certificates),
		len(x509Bundle.X509Authorities()), len(jwtBundle.JWTAuthorities()))
	return nil
}

func renew(ctx context.Context, want, secondsText, renewalsText string) error {
	seconds, err := strconv.Atoi(secondsText)
	if err != nil {
		return err
	}
	renewals, err := strconv.Atoi(renewalsText)
	if err != nil {
		return err
	}
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	serials := map[string]bool{}
	glances := 0
	shortest := time.Duration(1<<62 - 1)
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); time.Sleep(glance) {
		svid, err := source.GetX509SVID()
		if err != nil {
			return fmt.Errorf("after %d glances: %w", glances, err)
		}
		if svid.ID.String() != want {
			return fmt.Errorf("the SVID became one of %s", svid.ID)
		}
		now := time.Now()
		leaf := svid.Certificates[0]
		if err := validAt(svid.Certificates, now); err != nil {
			return err
		}
		if left := leaf.NotAfter.Sub(now); left < shortest {
			shortest = left
		}
		if !serials[leaf.SerialNumber.String()] {
			serials[leaf.SerialNumber.String()] = true
			if _, _, err := x509svid.Verify(svid.Certificates, source); err != nil {
				return err
			}
		}
		glances++
	}
	if len(serials) < renewals+1 {
		return fmt.Errorf("%d renewals in %d seconds, %d were expected", len(serials)-1, seconds, renewals)
	}
	fmt.Printf("%d renewals in %d s, valid at each of %d glances, at least %.1f s left\n", len(serials)-1, seconds,
		glances, shortest.Seconds())
	return nil
}

func validAt(chain []*x509.Certificate, now time.Time) error {
	for _, certificate := range chain {
		if now.Before(certificate.NotBefore) || now.After(certificate.NotAfter) {
			return fmt.Errorf("%s is valid from %s to %s, it is %s: a gap", certificate.SerialNumber,
				certificate.NotBefore, certificate.NotAfter, now)
		}
	}
	return nil
}

func jwt(ctx context.Context, want, audience string) error {
	client, err := workloadapi.New(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	token, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return err
	}
	bundles, err := client.FetchJWTBundles(ctx)
	if err != nil {
		return err
	}
	local, err := jwtsvid.ParseAndValidate(token.Marshal(), jwtbundle.Source(bundles), []string{audience})
	if err != nil {
		return fmt.Errorf("local validation: %w", err)
	}
	remote, err := client.ValidateJWTSVID(ctx, token.Marshal(), audience)
	if err != nil {
		return fmt.Errorf("ValidateJWTSVID: %w", err)
	}
	if local.ID.String() != want || remote.ID.String() != want {
		return fmt.Errorf("the token is of %s and %s, not of %s", local.ID, remote.ID, want)
	}
	if _, err := client.ValidateJWTSVID(ctx, token.Marshal(), audience+"-other"); err == nil {
		return errors.New("ValidateJWTSVID took a token for another audience")
	}
	fmt.Printf("token of %s for %s: valid locally and by the Workload API\n", local.ID, audience)
	return nil
}

func serve(ctx context.Context, own, peer string) error {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	peerID, err := spiffeid.FromString(peer)
	if err != nil {
		return err
	}
	config := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(peerID))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	defer listener.Close()
	go func() {
		<-ctx.Done()
		listener.Close()
	}()
	fmt.Printf("listening %s\n", listener.Addr())
	for turnedAway := 0; ; turnedAway++ {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		greeted, err := answer(connection.(*tls.Conn), own)
		connection.Close()
		if err == nil {
			fmt.Printf("%s answered %q of %s, turned away %d\n", own, greeted, peer, turnedAway)
			return nil
		}
		fmt.Printf("turned away: %v\n", err)
	}
}

func answer(connection *tls.Conn, own string) (string, error) {
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if err := connection.Handshake(); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(connection, "hello from %s\n", own)
	return line, err
}

func dial(ctx context.Context, address, peer string) error {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	line, err := greet(source, address, peer)
	if err != nil {
		return err
	}
	if line != "hello from "+peer+"\n" {
		return fmt.Errorf("%s said %q", peer, line)
	}
	fmt.Printf("mutual TLS with %s\n", peer)
	return nil
}

func refused(ctx context.Context, address, peer string) error {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	line, err := greet(source, address, peer)
	if err == nil {
		return fmt.Errorf("%s answered a stranger: %q", peer, line)
	}
	fmt.Printf("refused: %v\n", err)
	return nil
}

func greet(source *workloadapi.X509Source, address, peer string) (string, error) {
	peerID, err := spiffeid.FromString(peer)
	if err != nil {
		return "", err
	}
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(peerID))
	connection, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, config)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(connection, "hello"); err != nil {
		return "", err
	}
	return bufio.NewReader(connection).ReadString('\n')
}

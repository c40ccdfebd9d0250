// Verifies a JWT-SVID as a program does that knows OpenID Connect and nothing of SPIFFE: go-oidc, by discovery.
//
//	oidc-go ISSUER AUDIENCE ADDRESS ROOTS SUBJECT < token
//
// Every name leads to ADDRESS; TLS is verified with ROOTS.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

func main() {
	if err := verify(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func verify() error {
	if len(os.Args) != 6 {
		return fmt.Errorf("usage: %s ISSUER AUDIENCE ADDRESS ROOTS SUBJECT < token", os.Args[0])
	}
	issuer, audience, address, subject := os.Args[1], os.Args[2], os.Args[3], os.Args[5]
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(os.Args[4])
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("no roots in %s: %v", os.Args[4], err)
	}
	token, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: 10 * time.Second}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, named string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(named)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, net.JoinHostPort(address, port))
		},
	}}
	ctx := oidc.ClientContext(context.Background(), client)
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return err
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: audience}).Verify(ctx, strings.TrimSpace(string(token)))
	if err != nil {
		return err
	}
	if verified.Subject != subject {
		return fmt.Errorf("the token is of %s, not of %s", verified.Subject, subject)
	}
	fmt.Printf("verified %s\n", verified.Subject)
	return nil
}

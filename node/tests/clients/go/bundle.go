package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// bundle fetches a trust domain's bundle from its https_spiffe endpoint, verified with the one in a file, and makes sure
// that another endpoint ID is not taken (FED-40).
func bundle(ctx context.Context, url, domain, endpoint, file string) error {
	trustDomain, err := spiffeid.TrustDomainFromString(domain)
	if err != nil {
		return err
	}
	endpointID, err := spiffeid.FromString(endpoint)
	if err != nil {
		return err
	}
	held, err := spiffebundle.Load(trustDomain, file)
	if err != nil {
		return err
	}
	fetched, err := federation.FetchBundle(ctx, trustDomain, url, federation.WithSPIFFEAuth(held, endpointID))
	if err != nil {
		return err
	}
	sequence, hasSequence := fetched.SequenceNumber()
	hint, hasHint := fetched.RefreshHint()
	if len(fetched.X509Authorities()) == 0 || len(fetched.JWTAuthorities()) == 0 || !hasSequence || !hasHint {
		return errors.New("the bundle lacks authorities, sequence or refresh hint")
	}
	other, err := spiffeid.FromPath(trustDomain, "/other")
	if err != nil {
		return err
	}
	if _, err := federation.FetchBundle(ctx, trustDomain, url, federation.WithSPIFFEAuth(held, other)); err == nil {
		return errors.New("a server with another SPIFFE ID than the configured one was taken")
	}
	fmt.Printf("%d roots, %d token keys, sequence %d, hint %s\n",
		len(fetched.X509Authorities()), len(fetched.JWTAuthorities()), sequence, hint)
	return nil
}

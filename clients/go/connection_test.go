package eventstream_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
	"google.golang.org/grpc/codes"
)

// A service of the test's own, which appears after the first call was made and
// is killed and started again under a receiver.
func TestUnixSocketAndRestart(t *testing.T) {
	ctx, home := patient(t), t.TempDir()
	socket := "unix:" + filepath.Join(home, "socket")
	client := connect(t, socket)
	added := make(chan error, 1)
	go func() {
		_, err := client.AddEvent(ctx, "GO_UNIX", 1)
		added <- err
	}()
	kill := serve(t, home, socket)
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	var reconnects int
	receiver := client.Receive("G_RESTARTED", eventstream.ReceiverOptions{
		OnReconnect: func(eventstream.Reconnect) { reconnects++ },
	})
	var got []int64
	err := receiver.Run(ctx, func(ctx context.Context, event eventstream.Event) error {
		if got = append(got, event.ID); len(got) > 1 {
			receiver.Stop()
			return nil
		}
		kill()
		kill = serve(t, home, socket)
		_, err := client.AddEvent(ctx, "GO_UNIX", 2)
		return err
	})
	if err != nil || reconnects == 0 {
		t.Fatalf("%d reconnects, %v", reconnects, err)
	}
	// The first event again, or the second one if its acknowledgement came
	// through.
	if len(got) != 2 || got[1] < got[0] {
		t.Fatalf("%v", got)
	}
}

// serve starts a service; kill, or the end of the test, kills it.
func serve(t *testing.T, home, address string) (kill func()) {
	t.Helper()
	var log bytes.Buffer
	command := exec.Command(need(t, "TEST_EVENTSTREAM"), "serve",
		"--db", "sqlite:"+filepath.Join(home, "events.db"), "--grpc", address, "--http", "off")
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		if command.ProcessState == nil {
			_ = command.Process.Kill() // it may have ended by itself
			_ = command.Wait()
		}
		if t.Failed() {
			t.Log(log.String())
		}
	}
	t.Cleanup(kill)
	return kill
}

// https:// to a proxy that asks for a client certificate and a token, before
// the real service.
func TestTLSAndToken(t *testing.T) {
	certificate := selfSigned(t)
	proxy := secureProxy(t, certificate)
	trusted := x509.NewCertPool()
	trusted.AddCert(proxy.Certificate())
	config := &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{certificate}}
	ctx := patient(t)

	client := connect(t, proxy.URL, eventstream.WithTLS(config), eventstream.WithToken("secret"))
	component := register(t, client)
	id, err := client.AddEvent(ctx, "GO_TLS", 1)
	if err != nil {
		t.Fatal(err)
	}
	receiver := client.Receive(component, eventstream.ReceiverOptions{Want: []string{"GO_TLS"}})
	err = receiver.Run(ctx, func(_ context.Context, event eventstream.Event) error {
		if event.ID != id {
			t.Errorf("%+v", event)
		}
		receiver.Stop()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	client = connect(t, proxy.URL, eventstream.WithTLS(config), eventstream.WithToken("wrong"))
	err = client.Receive(component, eventstream.ReceiverOptions{}).Run(ctx, nothing)
	if codeOf(err) != codes.Unauthenticated {
		t.Errorf("wrong token: %v", err)
	}
	broken := func(context.Context) (string, error) { return "", errors.New("no secret today") }
	client = connect(t, proxy.URL, eventstream.WithTLS(config), eventstream.WithTokenSource(broken))
	if _, err = client.Status(ctx); codeOf(err) != codes.Unavailable {
		t.Errorf("no token: %v", err)
	}
	client = connect(t, proxy.URL, eventstream.WithTLS(&tls.Config{RootCAs: trusted}), eventstream.WithToken("secret"))
	if _, err = client.Status(ctx); codeOf(err) != codes.Unavailable {
		t.Errorf("no certificate: %v", err)
	}
	client = connect(t, proxy.URL, eventstream.WithToken("secret"))
	if _, err = client.Status(ctx); codeOf(err) != codes.Unavailable {
		t.Errorf("authority that is not trusted: %v", err)
	}
}

func codeOf(err error) codes.Code {
	var failure *eventstream.Error
	if errors.As(err, &failure) {
		return failure.Code
	}
	return codes.OK
}

func secureProxy(t *testing.T, client tls.Certificate) *httptest.Server {
	service := &url.URL{Scheme: "http", Host: need(t, "TEST_SQLITE")}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(service) },
		Transport:     transport,
		FlushInterval: -1,
	}
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	known := x509.NewCertPool()
	known.AddCert(client.Leaf)
	proxy.EnableHTTP2 = true
	proxy.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known}
	proxy.Config.ErrorLog = nil
	proxy.StartTLS()
	t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close()
		transport.CloseIdleConnections()
	})
	return proxy
}

func selfSigned(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

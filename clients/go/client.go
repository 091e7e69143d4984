package eventstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	evtv1 "github.com/futoin/eventstream-rs/clients/go/futoin/evt/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// maxMessageBytes is the largest message of the contract, both ways.
const maxMessageBytes = 16 << 20

// Bytes on their way to one stream and to all of them. Fixed, so that a live
// receiver that does not read is noticed by the service.
const (
	streamWindow     = 1 << 20
	connectionWindow = 8 << 20
)

// A connection whose peer vanished is given up this long after the last word.
const (
	keepaliveAfter   = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
)

// connecting keeps gRPC's own pauses, during which every call fails at once,
// below those of the receivers.
var connecting = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
	MinConnectTimeout: 10 * time.Second,
}

// Client is one connection to the service, safe for concurrent use.
type Client struct {
	connection *grpc.ClientConn
	gen        evtv1.GenServiceClient
	poll       evtv1.PollServiceClient
	push       evtv1.PushServiceClient
	admin      evtv1.AdminServiceClient
	log        *slog.Logger
	timeout    time.Duration
}

// Option configures a [Client].
type Option func(*dialing)

type dialing struct {
	tls     *tls.Config
	token   func(context.Context) (string, error)
	log     *slog.Logger
	timeout time.Duration
	more    []grpc.DialOption
}

// WithTLS sets the authorities to trust (RootCAs) and the client's own
// certificate (Certificates) of https:// connections; without it the system's
// authorities are trusted.
func WithTLS(config *tls.Config) Option {
	return func(d *dialing) { d.tls = config }
}

// WithToken sends a bearer token with each call. Over http:// anybody in
// between can read it.
func WithToken(token string) Option {
	return WithTokenSource(func(context.Context) (string, error) { return token, nil })
}

// WithTokenSource asks for the bearer token of each call. Its failures count
// as an unavailable service: what repeats such calls repeats them.
func WithTokenSource(source func(context.Context) (string, error)) Option {
	return func(d *dialing) { d.token = source }
}

// WithLogger replaces slog.Default.
func WithLogger(log *slog.Logger) Option {
	return func(d *dialing) { d.log = log }
}

// WithTimeout sets how long a call may take, repetitions included, when its
// context has no deadline. Default: 30 s.
func WithTimeout(timeout time.Duration) Option {
	return func(d *dialing) { d.timeout = timeout }
}

// WithDialOptions hands options to gRPC: interceptors, statistics, a dialer.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(d *dialing) { d.more = append(d.more, options...) }
}

// Dial makes a client of the service at http://HOST:PORT, https://HOST:PORT or
// unix:PATH. It connects when the first call is made.
func Dial(address string, options ...Option) (*Client, error) {
	d := dialing{log: slog.Default(), timeout: 30 * time.Second}
	for _, option := range options {
		option(&d)
	}
	target, secure, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	connection, err := grpc.NewClient(target, append(d.grpcOptions(secure), d.more...)...)
	if err != nil {
		return nil, invalid("address", err.Error())
	}
	return &Client{
		connection: connection,
		gen:        evtv1.NewGenServiceClient(connection),
		poll:       evtv1.NewPollServiceClient(connection),
		push:       evtv1.NewPushServiceClient(connection),
		admin:      evtv1.NewAdminServiceClient(connection),
		log:        d.log,
		timeout:    d.timeout,
	}, nil
}

// Close ends the connection and every call on it. Stop receivers before.
func (c *Client) Close() error { return c.connection.Close() }

// Conn is the connection, for the generated clients of futoin/evt/v1.
func (c *Client) Conn() *grpc.ClientConn { return c.connection }

func parseAddress(address string) (target string, secure bool, err error) {
	if strings.HasPrefix(address, "unix:") {
		return address, false, nil
	}
	at, err := url.Parse(address)
	if err != nil || at.Hostname() == "" || strings.Trim(at.Path, "/") != "" {
		return "", false, invalid("address", "must be http://HOST:PORT, https://HOST:PORT or unix:PATH")
	}
	port := at.Port()
	switch {
	case at.Scheme == "http" && port == "":
		port = "80"
	case at.Scheme == "https" && port == "":
		port = "443"
	case at.Scheme != "http" && at.Scheme != "https":
		return "", false, invalid("address", "must begin with http://, https:// or unix:")
	}
	return "dns:///" + net.JoinHostPort(at.Hostname(), port), at.Scheme == "https", nil
}

func (d *dialing) grpcOptions(secure bool) []grpc.DialOption {
	security := insecure.NewCredentials()
	if secure {
		security = credentials.NewTLS(d.tls)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithConnectParams(connecting),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveAfter, Timeout: keepaliveTimeout}),
	}
	if d.token != nil {
		options = append(options, grpc.WithPerRPCCredentials(bearer(d.token)))
	}
	return options
}

// bearer is a token as credentials of each call.
type bearer func(context.Context) (string, error)

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, fmt.Sprintf("no token: %v", err))
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// once makes one call, under the client's time-out where ctx has no deadline.
func (c *Client) once(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := within(ctx, c.timeout)
	defer cancel()
	if err := call(ctx); err != nil {
		return failed(ctx, err)
	}
	return nil
}

// repeat makes a call that is safe to repeat until it is answered.
func (c *Client) repeat(ctx context.Context, call func(context.Context) error) error {
	return c.repeatWithin(ctx, c.timeout, call)
}

func (c *Client) repeatWithin(ctx context.Context, timeout time.Duration, call func(context.Context) error) error {
	ctx, cancel := within(ctx, timeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := call(ctx)
		if err == nil {
			return nil
		}
		failure := asError(err)
		if !failure.repeatable() || !sleep(ctx, Backoff{}.delay(attempt, failure.RetryAfter)) {
			return failed(ctx, failure)
		}
		c.log.DebugContext(ctx, "eventstream: call is repeated", "attempt", attempt, "error", failure)
	}
}

// within gives ctx a deadline if it has none.
func within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// failed tells both the failure and the end of ctx, where that was the cause.
func failed(ctx context.Context, err error) error {
	failure := asError(err)
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("%w: %w", ended, failure)
	}
	return failure
}

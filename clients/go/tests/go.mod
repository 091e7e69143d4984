module github.com/futoin/eventstream-rs/clients/go/tests

go 1.26.0

replace github.com/futoin/eventstream-rs/clients/go => ../

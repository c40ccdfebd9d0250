//! Mutual TLS with one peer, named by its SPIFFE ID.

use crate::failure::Failure;
use crate::say;
use rustls::pki_types::ServerName;
use spiffe::X509Source;
use spiffe_rustls::{authorizer, mtls_client, mtls_server};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Answers `peer` once; whoever else comes is turned away by the handshake.
pub(crate) async fn serve(own: &str, peer: &str) -> Result<(), Failure> {
    let source = X509Source::new().await?;
    let config = mtls_server(source.clone()).authorize(authorizer::exact([peer])?).build()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&format!("listening {}", listener.local_addr()?));
    let mut turned_away = 0;
    loop {
        let (connection, _) = listener.accept().await?;
        match answer(&acceptor, connection, own).await {
            Ok(line) => {
                say(&format!("{own} answered {line:?} of {peer}, turned away {turned_away}"));
                return Ok(());
            }
            Err(error) => {
                turned_away += 1;
                say(&format!("turned away: {error}"));
            }
        }
    }
}

async fn answer(acceptor: &TlsAcceptor, connection: TcpStream, own: &str) -> std::io::Result<String> {
    let mut stream = BufReader::new(acceptor.accept(connection).await?);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    stream.write_all(format!("hello from {own}\n").as_bytes()).await?;
    stream.flush().await?;
    stream.shutdown().await?;
    Ok(line)
}

/// Says hello to `peer` and hears its answer.
pub(crate) async fn dial(address: &str, peer: &str) -> Result<(), Failure> {
    let line = greet(address, peer).await?;
    if line != format!("hello from {peer}\n") {
        return Err(Failure::wrong(format!("{peer} said {line:?}")));
    }
    say(&format!("mutual TLS with {peer}"));
    Ok(())
}

/// Says hello to a `peer` that expects somebody else.
pub(crate) async fn refused(address: &str, peer: &str) -> Result<(), Failure> {
    match greet(address, peer).await {
        Ok(line) if !line.is_empty() => Err(Failure::wrong(format!("{peer} answered a stranger: {line:?}"))),
        Ok(_) => {
            say("refused: the connection ended without an answer");
            Ok(())
        }
        Err(error) => {
            say(&format!("refused: {error}"));
            Ok(())
        }
    }
}

async fn greet(address: &str, peer: &str) -> Result<String, Failure> {
    let source = X509Source::new().await?;
    let config = mtls_client(source.clone()).authorize(authorizer::exact([peer])?).build()?;
    let connector = TlsConnector::from(Arc::new(config));
    let connection = TcpStream::connect(address).await?;
    // A name is asked for, and never looked at: the peer is authorised by its SPIFFE ID.
    let name = ServerName::try_from("localhost").map_err(|error| Failure::wrong(error.to_string()))?;
    let mut stream = BufReader::new(connector.connect(name, connection).await?);
    stream.write_all(b"hello\n").await?;
    stream.flush().await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line)
}

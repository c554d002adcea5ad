//! Connections of this machine, each carried to the pod by a connection of its own.
//!
//! The pod is looked up by name for every connection, so that a replaced pod is found by the next
//! one; a connection that comes while there is no ready pod waits for it a while. A connection
//! that breaks ends itself only. Where the store speaks TLS, this end of it does so for the client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::secure::Secure;
use crate::commands::restart::is_ready;
use crate::context::Context;
use crate::error::Failure;
use crate::names;
use crate::wait::{self, Seen, Wish};

/// Connections at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 64;
/// How long a connection waits for a pod that is being replaced.
const REPLACEMENT: Duration = Duration::from_secs(60);

/// Accepts connections until it is dropped.
pub(super) async fn serve(
    context: &Context,
    store: &str,
    listener: TcpListener,
    port: u16,
    secure: Option<Secure>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                context.printer.note(&format!("cannot accept a connection: {error}"));
                // Out of file handles, usually; some are given back as connections end.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (context, pod, secure) = (context.clone(), names::pod(store), secure.clone());
        tokio::spawn(async move {
            if let Err(failure) = carry(&context, &pod, socket, port, secure.as_ref()).await {
                context.printer.note(&format!("a connection ended: {failure}"));
            }
            drop(place);
        });
    }
}

async fn carry(
    context: &Context,
    pod: &str,
    socket: TcpStream,
    port: u16,
    secure: Option<&Secure>,
) -> Result<(), Failure> {
    let pods = context.api::<Pod>();
    let mut forwarder = match pods.portforward(pod, &[port]).await {
        Ok(forwarder) => forwarder,
        Err(_) => {
            await_ready(context, pod).await?;
            let object = context.object("pod", pod, "it went away again");
            pods.portforward(pod, &[port])
                .await
                .map_err(|error| object.failed("forward a port of", error))?
        }
    };
    let Some(stream) = forwarder.take_stream(port) else { return Ok(()) };
    let error = forwarder.take_error(port);
    let copied = match secure {
        None => copy(socket, stream).await,
        Some(secure) => match secure.connect(context, stream).await {
            Ok(stream) => copy(socket, stream).await,
            Err(failure) => {
                forwarder.abort();
                return Err(failure);
            }
        },
    };
    forwarder.abort();
    let said = match error {
        Some(error) => tokio::time::timeout(Duration::from_millis(100), error).await.ok().flatten(),
        None => None,
    };
    match (said, copied) {
        (Some(message), _) => {
            Err(Failure::Api { action: format!("reach port {port} of pod {pod}"), message })
        }
        (None, Err(source)) => Err(Failure::Local { what: "forwarding".to_owned(), source }),
        (None, Ok(())) => Ok(()),
    }
}

/// Copies both ways until both sides are done, or one has broken.
async fn copy(
    mut socket: TcpStream,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    match tokio::io::copy_bidirectional(&mut socket, &mut stream).await {
        // A client that hangs up in the middle of a stream is what clients do.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::NotConnected
                    // The end of a TLS stream without a farewell.
                    | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

async fn await_ready(context: &Context, pod: &str) -> Result<(), Failure> {
    let wish = Wish {
        object: context.object("pod", pod, "it is gone"),
        what: "the pod to be ready",
        remedy: "`kubectl memory status` shows what holds it up.",
        timeout: REPLACEMENT,
    };
    wait::until::<Pod, ()>(context, wish, |pod| match pod {
        Some(pod) if pod.metadata.deletion_timestamp.is_none() && is_ready(pod) => {
            Seen::Reached(())
        }
        Some(_) => Seen::Pending("it starts".to_owned()),
        None => Seen::Pending("there is none".to_owned()),
    })
    .await
}

//! What a probe of the health endpoint sees while the server is busy.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::figures::Figures;

/// Time between two probes.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks for `/health` again and again until `done`; connecting counts.
pub(super) fn health(address: SocketAddr, done: &AtomicBool) -> Result<Figures> {
    let began = Instant::now();
    let mut times = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let one = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "/health answers {answer}");
        times.push(one.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok(Figures::new(times, began.elapsed()))
}

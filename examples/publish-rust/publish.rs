// Publishes the job in a file to Aethelos over NATS and waits for its receipt. Rust's standard library only.
//   rustc publish.rs && ./publish FILE [NATS_URL USER PASSWORD_FILE]     (or the environment: NATS_URL, NATS_USER, NATS_PASSWORD_FILE, KEY)
// A submission is safe once its receipt is there, and not before: until then it is repeated under the same key, which never makes a second job.
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use std::{env, fs, process};

/// As much of the NATS text protocol as a publisher needs.
struct Bus {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Bus {
    fn connect(url: &str, user: &str, password: &str) -> Result<Bus> {
        let mut bus = Bus { stream: TcpStream::connect(url.trim_start_matches("nats://"))?, bytes: Vec::new() };
        let options = format!(r#"{{"user":"{user}","pass":"{password}","verbose":false,"pedantic":false,"headers":true,"lang":"rust","version":"1"}}"#);
        bus.send(format!("CONNECT {options}\r\n").as_bytes())?;
        Ok(bus)
    }

    fn send(&mut self, data: &[u8]) -> Result<()> {
        self.stream.write_all(data)
    }

    fn fill(&mut self, until: Instant) -> Result<()> {
        let mut part = [0; 65536];
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        match self.stream.read(&mut part)? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, "the broker closed the connection")),
            n => Ok(self.bytes.extend_from_slice(&part[..n])),
        }
    }

    /// The body of the next message; WouldBlock or TimedOut when none has come by then. Nothing is taken off the buffer before it is complete.
    fn message(&mut self, until: Instant) -> Result<Vec<u8>> {
        loop {
            let end = match self.bytes.windows(2).position(|w| w == b"\r\n") {
                Some(end) => end,
                None => {
                    self.fill(until)?;
                    continue;
                }
            };
            let line = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
            let word: Vec<&str> = line.split_whitespace().collect();
            let number = |from_end: usize| word[word.len() - from_end].parse::<usize>().map_err(|e| Error::new(ErrorKind::InvalidData, e));
            match word.first().copied() {
                Some(kind @ ("MSG" | "HMSG")) => {
                    // the last number is the length of all; in HMSG the one before is that of the headers
                    let (length, skip) = (number(1)?, if kind == "HMSG" { number(2)? } else { 0 });
                    while self.bytes.len() < end + 2 + length + 2 {
                        self.fill(until)?;
                    }
                    let all: Vec<u8> = self.bytes.drain(..end + 2 + length + 2).collect();
                    return Ok(all[end + 2 + skip..end + 2 + length].to_vec());
                }
                Some("-ERR") => return Err(Error::new(ErrorKind::PermissionDenied, line)),
                kind => {
                    self.bytes.drain(..end + 2);
                    if kind == Some("PING") {
                        self.send(b"PONG\r\n")?;
                    }
                }
            }
        }
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    let argument = |n: usize, name: &str| {
        args.get(n).cloned().or_else(|| env::var(name).ok()).unwrap_or_else(|| {
            eprintln!("usage: publish FILE [NATS_URL USER PASSWORD_FILE]");
            process::exit(2)
        })
    };
    let (file, url, user, password_file) = (argument(1, "FILE"), argument(2, "NATS_URL"), argument(3, "NATS_USER"), argument(4, "NATS_PASSWORD_FILE"));
    let (job, password) = (fs::read(file)?, fs::read_to_string(password_file)?);
    let key = env::var("KEY").or_else(|_| fs::read_to_string("/proc/sys/kernel/random/uuid"))
        .map_err(|e| Error::new(ErrorKind::NotFound, e))?
        .trim()
        .to_string();
    eprintln!("key {key}");
    let head = format!("NATS/1.0\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\n\r\n");
    let mut bus = Bus::connect(&url, &user, password.trim())?;
    // Listening begins before the first submission, or a quick receipt would be missed.
    bus.send(format!("SUB aethelos.receipt.default.{key} 1\r\n").as_bytes())?;
    for wait in [1, 2, 4, 8, 16, 32] {
        let mut submission = format!("HPUB aethelos.job.submit.default {} {}\r\n{head}", head.len(), head.len() + job.len()).into_bytes();
        submission.extend_from_slice(&job);
        submission.extend_from_slice(b"\r\n");
        bus.send(&submission)?;
        match bus.message(Instant::now() + Duration::from_secs(wait)) {
            Ok(receipt) => {
                let receipt = String::from_utf8_lossy(&receipt).into_owned();
                println!("{receipt}");
                process::exit(if receipt.replace(": ", ":").contains(r#""status":"accepted""#) { 0 } else { 1 });
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(e) => return Err(e),
        }
    }
    eprintln!("no receipt yet; run it again with KEY={key}");
    process::exit(1)
}

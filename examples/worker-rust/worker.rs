// A worker of an Aethelos operator on the bus for short work: it counts the bytes of input.text and answers at once. Rust's standard library only.
//   rustc worker.rs && ./worker OPERATOR NATS_URL USER PASSWORD_FILE     (`./aethelos operators worker OPERATOR` prints the last three)
// Run as many as you like; each call goes to one of them. Asked about a run, or given it again, it answers what it has answered while it lives.
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::{env, fs, process};

/// The text behind `"name":`. Enough for texts without escapes; use a JSON library for more.
fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let from = json.split_once(name)?.1.trim_start().strip_prefix('"')?;
    let text = &from[..from.find('"')?];
    if text.contains('\\') { None } else { Some(text) }
}

fn answer(call: &str) -> String {
    match call.split_once("\"input\":").and_then(|(_, input)| member(input, "\"text\":")) {
        Some(text) => format!(r#"{{"status":"done","output":{{"bytes":{}}}}}"#, text.len()),
        None => r#"{"status":"failed","error":"a text without quotes and backslashes is wanted","refused":true}"#.to_string(),
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    if args.len() != 5 {
        eprintln!("usage: worker OPERATOR NATS_URL USER PASSWORD_FILE");
        process::exit(2);
    }
    let (operator, url, user, password) = (&args[1], &args[2], &args[3], fs::read_to_string(&args[4])?);
    let mut out = TcpStream::connect(url.trim_start_matches("nats://"))?;
    let mut lines = BufReader::new(out.try_clone()?);
    let options = format!(
        r#"{{"user":"{user}","pass":"{}","verbose":false,"pedantic":false,"headers":true,"lang":"rust","version":"1"}}"#,
        password.trim()
    );
    out.write_all(format!("CONNECT {options}\r\nSUB aethelos.operator.{operator} {operator} 1\r\nSUB aethelos.operator.{operator}.status 2\r\n").as_bytes())?;
    let mut answers: HashMap<String, String> = HashMap::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the broker closed the connection"));
        }
        let word: Vec<&str> = line.split_whitespace().collect();
        match word.first().copied() {
            Some("PING") => out.write_all(b"PONG\r\n")?,
            Some("-ERR") => return Err(Error::new(ErrorKind::PermissionDenied, line)),
            Some(kind @ ("MSG" | "HMSG")) => {
                // subject, subscription, where to answer; the last number is the length of all; in HMSG the one before is that of the headers
                let number = |from_end: usize| word[word.len() - from_end].parse::<usize>().map_err(|e| Error::new(ErrorKind::InvalidData, e));
                let (length, skip) = (number(1)?, if kind == "HMSG" { number(2)? } else { 0 });
                let mut body = vec![0; length + 2];
                lines.read_exact(&mut body)?;
                let call = String::from_utf8_lossy(&body[skip..length]);
                let run = member(&call, "\"run_id\":").unwrap_or("").to_string();
                if word[2] == "2" && !answers.contains_key(&run) {
                    continue; // a question about a run of another worker
                }
                let answer = answers.entry(run).or_insert_with(|| answer(&call));
                out.write_all(format!("PUB {} {}\r\n{answer}\r\n", word[3], answer.len()).as_bytes())?;
            }
            _ => {}
        }
    }
}

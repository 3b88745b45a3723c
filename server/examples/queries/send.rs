//! Remote write 1.0: protobuf written by hand, in snappy blocks of literals alone.

use crate::data::{Data, Series};
use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

/// Series in a request.
const SERIES: usize = 100;

pub(crate) fn all(to: &str, mut data: Data) -> Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?);
    while let Some(slice) = data.next_slice() {
        for part in slice.chunks(SERIES) {
            post(&mut stream, &snappy(&request(part)))?;
        }
    }
    Ok(())
}

fn post(stream: &mut BufReader<TcpStream>, body: &[u8]) -> Result<()> {
    write!(
        stream.get_mut(),
        "POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: snappy\r\nContent-Type: \
         application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.get_mut().write_all(body)?;
    let (mut status, mut length, mut line) = (String::new(), 0, String::new());
    stream.read_line(&mut status)?;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text)?;
    if status.split(' ').nth(1).is_none_or(|code| !code.starts_with('2')) {
        bail!("{}: {}", status.trim(), String::from_utf8_lossy(&text));
    }
    Ok(())
}

fn request(series: &[Series]) -> Vec<u8> {
    let (mut out, mut one, mut inner) = (Vec::new(), Vec::new(), Vec::new());
    for series in series {
        one.clear();
        for (name, value) in series.labels.iter() {
            inner.clear();
            field(1, name.as_bytes(), &mut inner);
            field(2, value.as_bytes(), &mut inner);
            field(1, &inner, &mut one);
        }
        for (at, value) in series.times.iter().zip(&series.values) {
            inner.clear();
            inner.push(1 << 3 | 1);
            inner.extend_from_slice(&value.to_le_bytes());
            inner.push(2 << 3);
            varint(*at as u64, &mut inner);
            field(2, &inner, &mut one);
        }
        field(1, &one, &mut out);
    }
    out
}

fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Literals of at most 64 KiB.
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 1000 + 16);
    varint(bytes.len() as u64, &mut out);
    for part in bytes.chunks(1 << 16) {
        out.push(61 << 2);
        out.extend_from_slice(&((part.len() - 1) as u16).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

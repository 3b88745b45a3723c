//! Buffers that go round: what was read into one lies there until its reader lets it go, then the next read has it.
//!
//! A warm scrape therefore reads its files without asking the allocator. Buffers that grew large are given back.

use crate::host::into_text;
use std::fmt::{self, Write};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that wait at most.
const WAITING_MAX: usize = 8;
/// A larger buffer is not kept.
const BYTES_MAX: usize = 256 << 10;

/// Buffers that wait for a reader.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// A buffer of whatever length and content the last reader left.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= BYTES_MAX {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() < WAITING_MAX {
                waiting.push(buffer);
            }
        }
    }
}

/// The text of a file, in a buffer that goes back to its pool.
#[derive(Debug)]
pub(crate) struct Text {
    text: String,
    pool: Arc<Pool>,
}

impl Text {
    /// Bytes that are not UTF-8 are replaced.
    pub(crate) fn new(bytes: Vec<u8>, pool: &Arc<Pool>) -> Text {
        Text { text: into_text(bytes), pool: pool.clone() }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.text).into_bytes());
    }
}

/// A short text on the stack; what does not fit is cut off.
#[derive(Clone, Copy)]
pub(crate) struct Short {
    bytes: [u8; Short::BYTES_MAX],
    length: usize,
}

impl Short {
    /// As many as one read of an attribute brings.
    pub(crate) const BYTES_MAX: usize = 128;

    /// A number's digits, for a label.
    pub(crate) fn of(value: impl fmt::Display) -> Short {
        let mut text = Short { bytes: [0; Short::BYTES_MAX], length: 0 };
        // It fails only where the text is cut.
        let _ = write!(text, "{value}");
        text
    }

    /// What was read, without the white space around it; none when it is not UTF-8.
    pub(crate) fn read(bytes: &[u8]) -> Option<Short> {
        let mut text = Short { bytes: [0; Short::BYTES_MAX], length: 0 };
        text.write_str(std::str::from_utf8(bytes).ok()?.trim()).ok()?;
        Some(text)
    }
}

impl Write for Short {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let mut end = part.len().min(Short::BYTES_MAX - self.length);
        while !part.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes[self.length..self.length + end].copy_from_slice(&part.as_bytes()[..end]);
        self.length += end;
        if end == part.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl Deref for Short {
    type Target = str;

    fn deref(&self) -> &str {
        // Only whole characters are ever written.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or("")
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back() {
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.take();
        buffer.extend_from_slice(b"some text");
        let room = buffer.capacity();
        drop(Text::new(buffer, &pool));
        assert_eq!(pool.take().capacity(), room);
        pool.give(vec![0; BYTES_MAX + 1]);
        assert_eq!(pool.take().capacity(), 0, "a large one is not kept");
        assert_eq!(&*Text::new(b"a\xffb".to_vec(), &pool), "a\u{fffd}b");
    }

    #[test]
    fn short_texts_end_with_a_character() {
        assert_eq!(&*Short::of(17), "17");
        let long = "ü".repeat(Short::BYTES_MAX);
        assert_eq!(&*Short::of(&long), "ü".repeat(Short::BYTES_MAX / 2));
        assert_eq!(Short::read(b" up\n").as_deref(), Some("up"));
        assert!(Short::read(b"\xff").is_none());
    }
}

//! Groups: `(`, `(?:`, `(?flags)`, `(?flags:`, `(?P<name>`, `(?<name>` and `)`.

use super::{
    Error, ErrorCode, Node, Parser,
    stack::{Frame, Item},
};

impl Parser<'_> {
    pub(super) fn open_group(&mut self) -> Result<(), Error> {
        if self.rest().starts_with("(?") {
            return self.open_special();
        }
        self.at += 1;
        self.open(true, None);
        Ok(())
    }

    fn open(&mut self, capture: bool, name: Option<&str>) {
        let mut index = 0;
        if capture {
            index = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
            self.names.push(name.map(Box::from));
        }
        self.frames.push(Frame { index, outside: self.flags, ..Frame::default() });
    }

    fn open_special(&mut self) -> Result<(), Error> {
        let rest = self.rest();
        // A name needs room: with nothing after `<` Go reads `P` or `<` as a flag.
        let named = match rest.as_bytes() {
            [_, _, b'P', b'<', _, ..] => Some(4),
            [_, _, b'<', _, ..] => Some(3),
            _ => None,
        };
        match named {
            Some(start) => self.open_named(start),
            None => self.open_flags(),
        }
    }

    fn open_named(&mut self, start: usize) -> Result<(), Error> {
        let rest = self.rest();
        let Some(end) = rest.find('>') else {
            return Err(Error::new(ErrorCode::InvalidNamedCapture, rest));
        };
        let name = &rest[start..end];
        if name.is_empty() || !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
            return Err(Error::new(ErrorCode::InvalidNamedCapture, &rest[..=end]));
        }
        self.at += end + 1;
        self.open(true, Some(name));
        Ok(())
    }

    fn open_flags(&mut self) -> Result<(), Error> {
        let start = self.at;
        self.at += 2;
        let mut flags = self.flags;
        // After `-` flags are switched off, and at least one has to follow.
        let (mut on, mut seen) = (true, false);
        while let Some(c) = self.take() {
            let flag = match c {
                'i' => &mut flags.fold,
                'm' => &mut flags.multi_line,
                's' => &mut flags.dot_newline,
                'U' => &mut flags.swap_greed,
                '-' if on => {
                    (on, seen) = (false, false);
                    continue;
                }
                ':' | ')' if on || seen => {
                    if c == ':' {
                        self.open(false, None);
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            };
            *flag = on;
            seen = true;
        }
        Err(self.error_from(ErrorCode::InvalidPerlOp, start))
    }

    pub(super) fn close_group(&mut self) -> Result<(), Error> {
        let item = self.finish_alternatives()?;
        let wrapper = self.frames.len() == 2 && self.wrapper_end.is_some_and(|end| end != self.at);
        if self.frames.len() < 2 || wrapper {
            return Err(self.whole_error(ErrorCode::UnexpectedParen));
        }
        let frame = self.frames.pop().unwrap_or_default();
        self.at += 1;
        self.flags = frame.outside;
        if frame.index == 0 {
            return self.push(item);
        }
        self.push(Item {
            node: Node::Capture { index: frame.index, sub: Box::new(item.node) },
            size: item.size.saturating_add(2),
            height: item.height + 1,
            copies: item.copies,
        })
    }
}

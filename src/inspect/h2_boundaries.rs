//! Where HTTP/2 frames begin, in octets that are cut anywhere (RFC 9113 section 4.1).

use std::ops::ControlFlow;

pub const PREFACE: usize = 24;
pub const HEAD: usize = 9;
/// The head of an RST_STREAM with its error code.
const RESET: usize = HEAD + 4;

const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What a frame's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    /// Of the payload.
    pub length: usize,
    /// The error code of an RST_STREAM.
    pub code: Option<u32>,
}

impl Frame {
    /// Whether it carries nothing of a message: neither a head, nor content, nor the end of it.
    pub fn is_idle(self) -> bool {
        match self.kind {
            HEADERS | CONTINUATION => false,
            DATA => self.length == 0 && self.flags & END_STREAM == 0,
            _ => true,
        }
    }
}

/// Frames that carry parts of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// HEADERS.
    pub heads: u32,
    /// DATA, and the octets of their payloads.
    pub data: u32,
    pub octets: usize,
}

impl Passed {
    pub fn count(&mut self, frame: Frame) {
        match frame.kind {
            HEADERS => self.heads += 1,
            DATA => (self.data, self.octets) = (self.data + 1, self.octets + frame.length),
            _ => {}
        }
    }
}

/// Follows the boundaries of frames through octets that are cut anywhere.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    /// Octets of a payload, or of the preface, that are still to pass.
    skip: usize,
    head: [u8; RESET],
    held: usize,
}

impl Frames {
    pub fn after_preface() -> Self {
        Self { skip: PREFACE, ..Self::default() }
    }

    /// Whether what has passed ends inside of a payload.
    pub fn is_inside(&self) -> bool {
        self.skip > 0
    }

    pub fn feed(&mut self, mut octets: &[u8], mut seen: impl FnMut(Frame) -> ControlFlow<()>) -> ControlFlow<()> {
        loop {
            let passing = self.skip.min(octets.len());
            self.skip -= passing;
            octets = &octets[passing..];
            if octets.is_empty() {
                return ControlFlow::Continue(());
            }
            let taken = (self.wanted() - self.held).min(octets.len());
            self.head[self.held..self.held + taken].copy_from_slice(&octets[..taken]);
            self.held += taken;
            octets = &octets[taken..];
            if self.held == self.wanted() {
                seen(self.begin())?;
            }
        }
    }

    /// Octets of the frame that have to be seen.
    fn wanted(&self) -> usize {
        if self.held >= HEAD && self.head[3] == RST_STREAM && self.length() >= RESET - HEAD { RESET } else { HEAD }
    }

    fn length(&self) -> usize {
        usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2])
    }

    fn begin(&mut self) -> Frame {
        let [.., kind, flags, a, b, c, d, e, f, g, h] = self.head;
        let reset = self.held == RESET;
        let length = self.length();
        self.skip = length - (self.held - HEAD);
        self.held = 0;
        Frame {
            kind,
            flags,
            // The highest bit is reserved.
            stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
            length,
            code: reset.then(|| u32::from_be_bytes([e, f, g, h])),
        }
    }
}

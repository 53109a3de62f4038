//! Pipes for `splice(2)`, through which bulk moves from socket to socket without passing through us: lent, returned empty, few.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::sockets::is_beyond;

/// Octets a pipe holds, where the kernel grants it. It counts pages: what a socket received lies in pages half filled.
const SIZE: usize = 512 * 1024;
/// Pipes at once: two descriptors each, within what is reserved beside the connections', and within the pages that a kernel grants
/// an unprivileged user (`fs.pipe-user-pages-soft`, 64 MiB).
const MOST: usize = 64;
/// Empty pipes a thread keeps for the next who needs one.
const KEPT: usize = 8;

static PIPES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static FREE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// One pipe, which counts as one of [`MOST`] while it lives.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn new() -> Option<Self> {
        if PIPES.fetch_add(1, Ordering::Relaxed) >= MOST {
            PIPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        match pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC) {
            // The second has the higher number, and both are closed again.
            Ok((_, write)) if is_beyond(&write) => {
                PIPES.fetch_sub(1, Ordering::Relaxed);
                None
            }
            Ok((read, write)) => {
                // Smaller is slower and no error.
                let _ = fcntl_setpipe_size(&write, SIZE);
                Some(Self { read, write })
            }
            Err(_) => {
                PIPES.fetch_sub(1, Ordering::Relaxed);
                None
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A pipe on loan. It goes back when it is dropped empty; with octets in it, it is closed.
#[derive(Debug)]
pub(super) struct Lent {
    pipe: Option<Pipe>,
    held: usize,
}

impl Lent {
    /// `None` where there are enough already, or no descriptors: bulk is then copied.
    pub(super) fn take() -> Option<Self> {
        let kept = FREE.with_borrow_mut(Vec::pop);
        Some(Self { pipe: Some(kept.or_else(Pipe::new)?), held: 0 })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes what `source` has, at most `most`, into the empty pipe; 0 is its end.
    ///
    /// # Errors
    /// The socket's; `WouldBlock` where nothing is there.
    pub(super) fn fill(&mut self, source: &TcpStream, most: usize) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Ok(0) };
        let most = most.min(SIZE);
        let octets = source.try_io(Interest::READABLE, || Ok(splice(source, None, &pipe.write, None, most, FLAGS)?))?;
        self.held += octets;
        Ok(octets)
    }

    /// Gives `sink` as much as it takes.
    ///
    /// # Errors
    /// The socket's; `WouldBlock` where it takes nothing.
    pub(super) fn drain(&mut self, sink: &TcpStream) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Ok(0) };
        let held = self.held;
        let octets = sink.try_io(Interest::WRITABLE, || Ok(splice(&pipe.read, None, sink, None, held, FLAGS)?))?;
        self.held -= octets;
        Ok(octets)
    }

    /// Takes everything out of it.
    ///
    /// # Errors
    /// The system's; octets are lost then.
    pub(super) fn empty(&mut self) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; self.held];
        let Some(pipe) = &self.pipe else { return Ok(Vec::new()) };
        let mut filled = 0;
        while let Some(room) = octets.get_mut(filled..).filter(|room| !room.is_empty()) {
            match rustix::io::read(&pipe.read, room)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        self.held = 0;
        Ok(octets)
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.take().filter(|_| self.held == 0) else { return };
        // A thread that ends has no pool any more; the pipe ends with it.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(pipe);
            }
        });
    }
}

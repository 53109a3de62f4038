//! Messages with descriptors between two processes of one user, over a Unix stream socket (`SCM_RIGHTS`, unix(7)).
//!
//! A message is its length, four octets with the least first, and its octets. Its descriptors come with the first of them.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Descriptors of one message; the kernel takes 253.
pub const MOST_DESCRIPTORS: usize = 64;
/// Octets of one message: more than a tunnel holds of what it has read.
pub const MOST_OCTETS: usize = 4 << 20;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS));

/// Sends a message whole.
///
/// # Errors
/// The socket's; `InvalidInput` where it is more than a message has. The other end has no part of it that it could use.
pub fn send(stream: &UnixStream, octets: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > MOST_DESCRIPTORS || octets.len() > MOST_OCTETS {
        return Err(ErrorKind::InvalidInput.into());
    }
    let length = u32::try_from(octets.len()).map_err(io::Error::other)?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(ErrorKind::InvalidInput.into());
    }
    let sent =
        rustix::io::retry_on_intr(|| sendmsg(stream, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL))?;
    let mut stream = stream;
    stream.write_all(length.get(sent..).unwrap_or_default())?;
    stream.write_all(octets)
}

/// Waits for a message. What comes with it is closed on `exec`.
///
/// # Errors
/// The socket's; `UnexpectedEof` where the other end has closed; `InvalidData` where it is no message. [`Errno::MFILE`]: there are no
/// descriptors left for those that came; what follows can be received.
pub fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let came = rustix::io::retry_on_intr(|| recvmsg(stream, &mut [IoSliceMut::new(&mut length)], &mut control, flags))?;
    let descriptors: Vec<_> = control
        .drain()
        .filter_map(|message| if let RecvAncillaryMessage::ScmRights(these) = message { Some(these) } else { None })
        .flatten()
        .collect();
    if came.bytes == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let cut = came.flags.contains(ReturnFlags::CTRUNC);
    let mut stream = stream;
    stream.read_exact(length.get_mut(came.bytes..).unwrap_or_default())?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MOST_OCTETS {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is longer than a message"));
    }
    let mut octets = vec![0; length];
    stream.read_exact(&mut octets)?;
    // The message has been read, and the next one can be.
    if cut { Err(Errno::MFILE.into()) } else { Ok((octets, descriptors)) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn messages_keep_their_descriptors() {
        let (here, there) = UnixStream::pair().expect("sockets");
        let files: Vec<_> = (0..MOST_DESCRIPTORS).map(|_| tempfile::tempfile().expect("a file")).collect();
        for (number, mut file) in files.iter().enumerate() {
            write!(file, "file {number}").expect("written");
        }
        let all: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let long = vec![7; 100_000];
        let sending = std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                send(&here, b"none", &[])?;
                send(&here, b"", &all[..1])?;
                send(&here, &long, &all)?;
                send(&here, b"last", &all[3..5])
            });
            let mut came = Vec::new();
            for _ in 0..4 {
                came.push(receive(&there).expect("a message"));
            }
            assert_eq!(
                came.iter().map(|(octets, these)| (octets.len(), these.len())).collect::<Vec<_>>(),
                [(4, 0), (0, 1), (100_000, MOST_DESCRIPTORS), (4, 2)]
            );
            let (octets, these) = came.pop().expect("the last");
            assert_eq!(octets, b"last");
            let read = |of: &OwnedFd| {
                let mut text = [0; 6];
                rustix::io::pread(of, &mut text, 0).map(|_| text)
            };
            assert_eq!((read(&these[0]), read(&these[1])), (Ok(*b"file 3"), Ok(*b"file 4")));
            sending.join().expect("no panic")
        });
        sending.expect("sent");
        let too_many: Vec<_> = all.iter().chain(&all[..1]).copied().collect();
        assert_eq!(send(&here, b"", &too_many).expect_err("too many").kind(), ErrorKind::InvalidInput);
        drop((
            here,
            File::from(files.into_iter().next().expect("one").try_clone().map(OwnedFd::from).expect("a file")),
        ));
        assert_eq!(receive(&there).expect_err("its end").kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_message_is_refused_without_room_for_it() {
        let (here, there) = UnixStream::pair().expect("sockets");
        (&here).write_all(&u32::MAX.to_le_bytes()).expect("written");
        assert_eq!(receive(&there).expect_err("too long").kind(), ErrorKind::InvalidData);
        let (here, there) = UnixStream::pair().expect("sockets");
        (&here).write_all(&[9, 0, 0, 0, 1, 2]).expect("written");
        drop(here);
        assert_eq!(receive(&there).expect_err("half of one").kind(), ErrorKind::UnexpectedEof);
    }
}

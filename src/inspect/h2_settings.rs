//! Every limit of an inspected HTTP/2 connection, for both legs, and the two builders they go into.
//!
//! Nothing is left to a default of the `h2` crate: a limit that is not written here is a limit nobody has chosen.

use std::time::Duration;

use h2::{client, server};

/// Streams a client may have open at once (`SETTINGS_MAX_CONCURRENT_STREAMS`); browsers open about a hundred.
pub const STREAMS: u32 = 128;
/// Octets of one body we hold unread, per stream and direction: about 13 MB/s at 20 ms of round trip.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// Octets of all bodies of a leg we hold unread. With [`SEND_BUFFER`] this is the memory a stalled peer costs (H07).
pub const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Windows of streams in that of a connection: so many bodies can hold all of theirs.
pub const STREAM_WINDOWS: usize = (CONNECTION_WINDOW / STREAM_WINDOW) as usize;
/// Largest frame taken, the smallest value RFC 9113 section 4.2 permits.
pub const FRAME: u32 = 16 * 1024;
/// Largest header list taken, each field counted with 32 octets more (RFC 9113 section 6.5.2): bounds the HPACK bomb (F06).
/// Four times as much ends the connection; so do more CONTINUATION frames than it needs (F03).
pub const HEADER_LIST: u32 = 64 * 1024;
/// Largest trailers relayed, counted in the same way; they must fit into one frame beside. Of what is longer than [`HEADER_LIST`]
/// the crate keeps a part and does not tell: within one frame no field is so long that this could begin below half of it.
pub const TRAILERS: usize = 32 * 1024;
/// Octets of a request head as HTTP/1 would write it, our fields included (G07). So far below [`HEADER_LIST`] that the refusal is
/// ours, with its page and its record, before it is the crate's bare 431.
pub const HEAD: usize = 48 * 1024;
/// Fields in one request head. A field of one octet takes some hundred of memory, far more than the header list counts (F06).
pub const FIELDS: usize = 256;
/// HPACK dynamic table of either direction, the default of RFC 7541 written out.
pub const HEADER_TABLE: u32 = 4096;
/// Octets of one body handed to a connection that its peer has not taken yet.
pub const SEND_BUFFER: usize = 32 * 1024;
/// Small DATA frames: octets of overhead they may cost while unread. Empty ones are limited to 100 by the crate (F05).
pub const SMALL_FRAMES: usize = 512 * 1024;
/// Streams we have reset whose late frames are still ignored instead of answered, and for how long.
pub const REMEMBERED_RESETS: usize = 64;
pub const REMEMBERED_FOR: Duration = Duration::from_secs(1);
/// Streams reset by the client before we looked at them (rapid reset, F01).
pub const UNSEEN_RESETS: usize = 20;
/// Resets a peer may provoke from us by protocol errors in the life of a connection (MadeYouReset, F02).
pub const PROVOKED_RESETS: usize = 256;
/// Streams a client may cancel, each answered stream giving one back: a slow rapid reset would burden the upstream (F01).
pub const CANCELLED_STREAMS: usize = 256;
/// Frames that carry nothing of a message, PING and WINDOW_UPDATE among them, that a peer may send at once (F04, F05), and so many a second
/// when those are used up.
pub const IDLE_FRAMES: u32 = 1000;
pub const IDLE_FRAMES_PER_SECOND: u32 = 100;
/// So many more for each HEADERS of either side.
pub const IDLE_FRAMES_OF_A_HEAD: u32 = 10;
/// And for each DATA that the peer is sent, with one more for so many octets of it: windows are opened in steps of 4 KiB and more, for the
/// stream and for the connection, and some peers measure the line by a PING beside.
pub const IDLE_FRAMES_OF_DATA: u32 = 2;
pub const OCTETS_OF_AN_IDLE_FRAME: usize = 512;
/// What may have been earned and not been used: a peer that pauses opens a window of 32 MiB afterwards.
pub const IDLE_FRAMES_EARNED: u32 = 65_536;
/// Informational responses an upstream may send before one answer (E17).
pub const INFORMATIONAL: usize = 16;
/// How long a client that was told GOAWAY may keep a connection without streams.
pub const GOODBYE: Duration = Duration::from_secs(5);

/// What [`client::SendRequest::current_max_send_streams`] says until the upstream's SETTINGS have been applied. No SETTINGS
/// can say it: theirs is a `u32`, and absent means [`usize::MAX`].
pub const BEFORE_SETTINGS: usize = usize::MAX - 1;

/// The leg on which clients speak to us.
pub fn server(extended_connect: ExtendedConnect) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADER_LIST)
        .header_table_size(HEADER_TABLE)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_FRAMES)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(PROVOKED_RESETS));
    match extended_connect {
        ExtendedConnect::Announced => builder.enable_connect_protocol(),
        ExtendedConnect::Absent => &mut builder,
    };
    builder
}

/// The leg on which we speak to an upstream. Server push is off: a PUSH_PROMISE ends the connection (F11).
pub fn client() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(BEFORE_SETTINGS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADER_LIST)
        .header_table_size(HEADER_TABLE)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_FRAMES)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(PROVOKED_RESETS));
    builder
}

/// Whether an upstream's SETTINGS announced extended CONNECT (RFC 8441), which we then announce to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedConnect {
    Announced,
    Absent,
}

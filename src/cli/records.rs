//! Records as they are named on the command line: ordinary files, or `-` for standard input.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::files::open_regular;
use crate::learning::{Attempt, Seen, each_attempt};

/// What `suggest` and `replay` read.
#[derive(clap::Args)]
pub(super) struct Records {
    /// Records (access.jsonl); - is standard input
    #[arg(value_name = "ACCESS.JSONL", required = true)]
    paths: Vec<PathBuf>,
}

impl Records {
    /// The one record at `path`.
    pub fn at(path: &Path) -> Self {
        Self { paths: vec![path.to_owned()] }
    }

    /// Calls `each` for every attempt in them, in their order.
    ///
    /// # Errors
    /// A sentence: which of them cannot be read, and why.
    pub fn each(&self, mut each: impl FnMut(&Attempt)) -> Result<Seen, String> {
        let mut seen = Seen::default();
        for path in &self.paths {
            let read = if path.as_os_str() == "-" {
                read(&mut io::stdin().lock(), &mut seen, &mut each)
            } else {
                open(path).and_then(|mut file| read(&mut file, &mut seen, &mut each))
            };
            read.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if seen.attempts + seen.others == 0 && seen.foreign > 0 {
            return Err(format!("none of the {} lines is one of a record of sekisho", seen.foreign));
        }
        Ok(seen)
    }
}

fn read(input: &mut impl BufRead, seen: &mut Seen, each: &mut impl FnMut(&Attempt)) -> io::Result<()> {
    if input.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Err(io::Error::other("it is compressed: zcat FILE | sekisho … -"));
    }
    each_attempt(input, seen, each)
}

/// A FIFO or a device is not waited for.
fn open(path: &Path) -> io::Result<BufReader<std::fs::File>> {
    let file = open_regular(path).map_err(|error| match error.kind() {
        io::ErrorKind::Other => io::Error::other(format!("{error}; - reads standard input")),
        _ => error,
    })?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

/// How many lines were none of a record's, for the end of a sentence.
pub(super) fn foreign(seen: &Seen) -> String {
    match seen.foreign {
        0 => String::new(),
        1 => "; 1 line is none of a record's (torn, cut or foreign) and was passed over".to_owned(),
        n => format!("; {n} lines are none of a record's (torn, cut or foreign) and were passed over"),
    }
}

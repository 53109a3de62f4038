//! The messages between the process that serves and the one that mints, one in each packet of a SOCK_SEQPACKET socket.
//!
//! Numbers are big-endian. Each message begins with the number of its question (8 octets) and its kind (1 octet):
//!
//! | question | behind it |
//! |---|---|
//! | 1 take up | which file (1 octet: 0 the configuration, 1 its trial, 2 the last good one), the public key of the leaves (65 octets, an uncompressed point of P-256) |
//! | 2 keep | the generation that is in force from now on (4 octets), 0 where nothing is inspected any more |
//! | 3 mint | the generation (4 octets), which of its issuing CAs (1 octet), the name (ASCII) |
//! | 4 alive | |
//!
//! | answer | behind it |
//! |---|---|
//! | 1 taken up | the generation (4 octets), the revision (ASCII) |
//! | 2 kept | |
//! | 3 leaf | the certificate (DER) |
//! | 4 refused | why (UTF-8) |
//! | 5 alive | |
//!
//! No path, no policy, no key, no field of a certificate but its name: whoever holds the asking end chooses among what the other has
//! read. What is too long, too short or of an unknown kind is no message, and ends the conversation.

use super::issuer::Which;
use crate::names::DnsName;

/// Octets of the longest question.
pub const MAX_QUESTION: usize = 512;
/// Octets of the longest answer: a leaf has less than one KiB, a refusal is cut to this.
pub const MAX_ANSWER: usize = 16 * 1024;
/// Octets of an uncompressed point of P-256 (SEC 1 section 2.3.3).
pub const POINT: usize = 65;

const HEAD: usize = 9;
const REVISION: usize = 64;

/// What a configuration is read from. A closed list: no path is in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The file that the service was started with.
    File,
    /// Beside it, the same name with `.trial` behind it.
    Trial,
    /// What the service keeps in its state directory, where it was started with that because the file is broken.
    LastGood,
}

impl Source {
    const ALL: [Self; 3] = [Self::File, Self::Trial, Self::LastGood];

    /// Its octet in a message.
    fn octet(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Trial => 1,
            Self::LastGood => 2,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Read the configuration and its key, for leaves of this public key.
    TakeUp { source: Source, point: [u8; POINT] },
    /// This generation is in force, or with 0 none: forget the others.
    Keep { generation: u32 },
    /// A leaf for this name.
    Mint { generation: u32, which: Which, name: DnsName },
    /// Whether anybody answers.
    Alive,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    TakenUp { generation: u32, revision: String },
    Kept,
    Leaf(Vec<u8>),
    Refused(String),
    Alive,
}

impl Question {
    pub fn encode(&self, number: u64) -> Vec<u8> {
        let mut octets = number.to_be_bytes().to_vec();
        match self {
            Self::TakeUp { source, point } => {
                octets.extend([1, source.octet()]);
                octets.extend(point);
            }
            Self::Keep { generation } => {
                octets.push(2);
                octets.extend(generation.to_be_bytes());
            }
            Self::Mint { generation, which, name } => {
                octets.push(3);
                octets.extend(generation.to_be_bytes());
                octets.push(u8::from(*which == Which::Next));
                octets.extend(name.as_str().as_bytes());
            }
            Self::Alive => octets.push(4),
        }
        octets
    }

    /// `None`: this is no question.
    pub fn decode(octets: &[u8]) -> Option<(u64, Self)> {
        if octets.len() > MAX_QUESTION {
            return None;
        }
        let (number, kind, rest) = head(octets)?;
        let question = match kind {
            1 => {
                let (source, point) = rest.split_first()?;
                let source = Source::ALL.into_iter().find(|known| known.octet() == *source)?;
                let point: [u8; POINT] = point.try_into().ok()?;
                // SEC 1 section 2.3.3: 04 begins an uncompressed point.
                (point[0] == 4).then_some(Self::TakeUp { source, point })?
            }
            2 => Self::Keep { generation: u32::from_be_bytes(rest.try_into().ok()?) },
            3 => {
                let (generation, rest) = rest.split_first_chunk()?;
                let (which, name) = rest.split_first()?;
                let which = match which {
                    0 => Which::First,
                    1 => Which::Next,
                    _ => return None,
                };
                let parsed = DnsName::parse(name).ok()?;
                // Only the normal form, which is what the other end has.
                let normal = parsed.as_str().as_bytes() == name;
                let generation = u32::from_be_bytes(*generation);
                normal.then_some(Self::Mint { generation, which, name: parsed })?
            }
            4 if rest.is_empty() => Self::Alive,
            _ => return None,
        };
        Some((number, question))
    }
}

impl Answer {
    pub fn encode(&self, number: u64) -> Vec<u8> {
        let mut octets = number.to_be_bytes().to_vec();
        match self {
            Self::TakenUp { generation, revision } => {
                octets.push(1);
                octets.extend(generation.to_be_bytes());
                octets.extend(revision.as_bytes());
            }
            Self::Kept => octets.push(2),
            Self::Leaf(der) => {
                octets.push(3);
                octets.extend(der);
            }
            Self::Refused(why) => {
                octets.push(4);
                let room = MAX_ANSWER - HEAD;
                octets.extend(&why.as_bytes()[..why.floor_char_boundary(room)]);
            }
            Self::Alive => octets.push(5),
        }
        octets
    }

    /// `None`: this is no answer.
    pub fn decode(octets: &[u8]) -> Option<(u64, Self)> {
        if octets.len() > MAX_ANSWER {
            return None;
        }
        let (number, kind, rest) = head(octets)?;
        let answer = match kind {
            1 => {
                let (generation, revision) = rest.split_first_chunk()?;
                let revision = std::str::from_utf8(revision).ok().filter(|text| text.len() <= REVISION)?;
                Self::TakenUp { generation: u32::from_be_bytes(*generation), revision: revision.to_owned() }
            }
            2 if rest.is_empty() => Self::Kept,
            3 => Self::Leaf(rest.to_vec()),
            4 => Self::Refused(std::str::from_utf8(rest).ok()?.to_owned()),
            5 if rest.is_empty() => Self::Alive,
            _ => return None,
        };
        Some((number, answer))
    }
}

fn head(octets: &[u8]) -> Option<(u64, u8, &[u8])> {
    let (number, rest) = octets.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    Some((u64::from_be_bytes(*number), *kind, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> DnsName {
        DnsName::parse(text.as_bytes()).expect("a name")
    }

    fn questions() -> Vec<Question> {
        let mut point = [7; POINT];
        point[0] = 4;
        let longest = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        vec![
            Question::TakeUp { source: Source::File, point },
            Question::TakeUp { source: Source::Trial, point },
            Question::TakeUp { source: Source::LastGood, point },
            Question::Keep { generation: u32::MAX },
            Question::Mint { generation: 1, which: Which::First, name: name("a.example.com") },
            Question::Mint { generation: 2, which: Which::Next, name: name(&longest) },
            Question::Alive,
        ]
    }

    fn answers() -> Vec<Answer> {
        vec![
            Answer::TakenUp { generation: 3, revision: "0123456789ab".to_owned() },
            Answer::Kept,
            Answer::Leaf(vec![0x30; 900]),
            Answer::Refused("no".to_owned()),
            Answer::Alive,
        ]
    }

    #[test]
    fn messages_come_back_as_they_were_and_fit() {
        for (number, question) in (u64::MAX - 9..).zip(questions()) {
            let octets = question.encode(number);
            assert!(octets.len() <= MAX_QUESTION);
            assert_eq!(Question::decode(&octets), Some((number, question)));
        }
        for (number, answer) in (0..).zip(answers()) {
            assert_eq!(Answer::decode(&answer.encode(number)), Some((number, answer)));
        }
        let long = Answer::Refused("関".repeat(MAX_ANSWER)).encode(1);
        assert!(long.len() <= MAX_ANSWER && Answer::decode(&long).is_some());
    }

    #[test]
    fn j07_what_is_cut_lengthened_or_unknown_is_no_message() {
        for question in questions() {
            let octets = question.encode(1);
            // Only a name may be another, shorter one.
            let least = if matches!(question, Question::Mint { .. }) { HEAD + 6 } else { octets.len() };
            for cut in 0..least {
                assert_eq!(Question::decode(&octets[..cut]), None, "{question:?} {cut}");
            }
            for more in [&[0][..], b"\0\0\0", &[0x41; MAX_QUESTION]] {
                assert_eq!(Question::decode(&[&octets[..], more].concat()), None, "{question:?}");
            }
        }
        let kind = |kind: u8| [&1u64.to_be_bytes()[..], &[kind, 0, 0, 0, 1]].concat();
        for other in [0, 4, 5, 0x7f, 0xff] {
            assert_eq!(Question::decode(&kind(other)), None, "{other}");
        }
        for (place, octet) in [(HEAD, 3), (HEAD + 1, 2), (HEAD + 1, 0)] {
            let mut octets = questions()[0].encode(1);
            octets[place] = octet;
            assert_eq!(Question::decode(&octets), None, "{place}");
        }
    }

    #[test]
    fn j07_a_name_that_is_not_in_its_normal_form_is_no_question() {
        let question = Question::Mint { generation: 1, which: Which::First, name: name("a.example.com") };
        let octets = question.encode(1);
        for other in ["A.example.com", "a.example.com.", "*.example.com", "127.0.0.1", "a.example.com\0", "", "a b"] {
            let with = [&octets[..HEAD + 5], other.as_bytes()].concat();
            assert_eq!(Question::decode(&with), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn j07_hostile_octets_never_panic_and_mean_one_thing(octets in prop::collection::vec(any::<u8>(), 0..700), kind in 0u8..6) {
            let mut octets = octets;
            if let Some(place) = octets.get_mut(8) {
                *place = kind;
            }
            if let Some((number, question)) = Question::decode(&octets) {
                prop_assert_eq!(question.encode(number), octets.clone());
            }
            if let Some((number, answer)) = Answer::decode(&octets) {
                prop_assert_eq!(answer.encode(number), octets);
            }
        }
    }
}

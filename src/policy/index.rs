//! A small hash index for the table: ids by tag, eight bytes a slot. The keys stay with their owner, who compares them. And the
//! hash itself.
//!
//! What may not be here: anything that knows of labels or patterns.

use std::hash::Hasher;
use std::num::NonZeroU32;

/// A place in one of the table's lists, in four bytes, also where there may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(NonZeroU32);

impl Id {
    pub(super) fn of_index(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("a configuration file of at most 4 GiB has fewer than 2^32 labels"))
    }

    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    pub(super) fn number(self) -> u32 {
        self.0.get()
    }
}

/// An open-addressed hash index of ids: eight bytes a slot, at most half of them taken.
#[derive(Debug)]
pub(super) struct Index {
    /// A power of two of them.
    slots: Vec<Option<Slot>>,
    taken: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u32,
    id: Id,
}

impl Default for Index {
    fn default() -> Self {
        Self { slots: vec![None; 16], taken: 0 }
    }
}

impl Index {
    /// The id stored under `tag` for which `is` holds.
    pub(super) fn find(&self, tag: u32, is: impl Fn(Id) -> bool) -> Option<Id> {
        let mut place = self.first_place(tag);
        while let Some(slot) = self.slots[place] {
            count_step();
            if slot.tag == tag && is(slot.id) {
                return Some(slot.id);
            }
            place = self.next_place(place);
        }
        None
    }

    pub(super) fn insert(&mut self, tag: u32, id: Id) {
        if self.taken * 2 >= self.slots.len() {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![None; old.len() * 2];
            old.into_iter().flatten().for_each(|slot| self.place(slot));
        }
        self.place(Slot { tag, id });
        self.taken += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mut place = self.first_place(slot.tag);
        while self.slots[place].is_some() {
            place = self.next_place(place);
        }
        self.slots[place] = Some(slot);
    }

    fn first_place(&self, tag: u32) -> usize {
        tag as usize & (self.slots.len() - 1)
    }

    fn next_place(&self, place: usize) -> usize {
        (place + 1) & (self.slots.len() - 1)
    }
}

pub(super) fn tag_of(write: impl FnOnce(&mut Folded)) -> u32 {
    let mut hasher = Folded::default();
    write(&mut hasher);
    let hash = hasher.finish();
    (hash ^ (hash >> 32)) as u32
}

/// A hash, eight octets at a time, each by a multiplication whose upper half is folded onto the lower (as wyhash has it).
///
/// It has no secret: an attacker chooses what is looked up, but only the configuration chooses what is stored, and only stored
/// collisions would cost time. Whoever owns the keys compares them in full.
#[derive(Debug, Default)]
pub(super) struct Folded(u64);

impl Folded {
    fn fold(&mut self, word: u64) {
        // The fractional part of the golden ratio: odd, and without a pattern in its bits.
        const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
        let wide = u128::from(self.0.rotate_left(23) ^ word) * FACTOR;
        self.0 = wide as u64 ^ (wide >> 64) as u64;
    }
}

impl Hasher for Folded {
    /// The last word overlaps the one before, which costs less than filling it up; the length is in it too.
    fn write(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.fold(u64::from_le_bytes(*word)));
        match bytes.last_chunk() {
            Some(last) => self.fold(u64::from_le_bytes(*last)),
            None => self.fold(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))),
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.fold(number.into());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
thread_local! {
    /// Nodes visited, shapes tried and slots read by look-ups of this thread.
    pub(super) static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[inline]
pub(super) fn count_step() {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

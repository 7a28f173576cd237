//! Blocks of addresses, and which of them cover an address: a look-up for each length of prefix that there is.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    str::FromStr,
};

/// A block of addresses in CIDR notation; a single address is a block of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    six: bool,
    bits: u128,
    length: u8,
}

impl Block {
    /// The first so many bits of an address; an IPv4 address in IPv6 is an IPv4 address.
    ///
    /// `None` when the length is longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let (six, bits) = bits(address.to_canonical());
        let length = if address.is_ipv6() && !six { length.checked_sub(96)? } else { length };
        if length > width(six) {
            return None;
        }
        Some(Self { six, bits: masked(six, bits, length), length })
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (six, bits) = bits(address.to_canonical());
        six == self.six && masked(six, bits, self.length) == self.bits
    }
}

fn bits(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (false, u128::from(address.to_bits())),
        IpAddr::V6(address) => (true, address.to_bits()),
    }
}

const fn width(six: bool) -> u8 {
    if six { 128 } else { 32 }
}

fn masked(six: bool, bits: u128, length: u8) -> u128 {
    let rest = u32::from(width(six).saturating_sub(length));
    bits.checked_shr(rest).and_then(|bits| bits.checked_shl(rest)).unwrap_or(0)
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is not an address or block: expected `203.0.113.9` or `203.0.113.0/24`", text.chars().take(100).collect::<String>());
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length = match length {
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => length.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
            None => width(address.is_ipv6()),
        };
        // All addresses there are nobody warns of.
        Self::new(address, length).filter(|block| block.length > 0).ok_or_else(wrong)
    }
}

/// Values by block. A block may have several.
#[derive(Debug, Clone)]
pub struct Prefixes<T> {
    /// By width and length, longest last.
    by_length: BTreeMap<(bool, u8), HashMap<u128, Vec<T>>>,
    len: usize,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { by_length: BTreeMap::new(), len: 0 }
    }
}

impl<T: PartialEq> Prefixes<T> {
    /// Adds a value to a block, unless it has it.
    pub fn insert(&mut self, block: Block, value: T) {
        let values = self.by_length.entry((block.six, block.length)).or_default().entry(block.bits).or_default();
        if !values.contains(&value) {
            values.push(value);
            self.len += 1;
        }
    }

    /// The values of all blocks that an address lies in, of the largest block first.
    pub fn covering(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let (six, bits) = bits(address.to_canonical());
        let lengths = self.by_length.range((six, 0)..=(six, width(six)));
        lengths.filter_map(move |((_, length), blocks)| blocks.get(&masked(six, bits, *length))).flatten()
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

//! A small seeded generator whose numbers never change between versions, and weighted choice.

/// A wyrand generator: 64 bits of state, the same sequence for the same seed for ever.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator for one purpose; `stream` separates the purposes of one seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed ^ 0x9e37_79b9_7f4a_7c15, stream.wrapping_add(0xd1b5_4a32_d192_ed03)))
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        mix(self.0, self.0 ^ 0xe703_7ed1_a0b4_28db)
    }

    /// A number from 0 to `bound` - 1; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        high(self.next(), bound)
    }

    /// True in `per_mille` of 1,000 cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of several texts; empty for none.
    pub fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let index = self.below(choices.len() as u64);
        usize::try_from(index).ok().and_then(|index| choices.get(index)).copied().unwrap_or_default()
    }

    /// One of several things; `None` for none.
    pub fn of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = self.below(items.len() as u64);
        items.get(usize::try_from(index).ok()?)
    }
}

/// Hashes two numbers to one.
pub fn mix(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right ^ 0x2d35_8dcc_aa6c_78a5);
    let folded = (product ^ (product >> 64)) & u128::from(u64::MAX);
    // Low-entropy inputs need a second round.
    let folded = u64::try_from(folded).unwrap_or(0) ^ right.rotate_left(29);
    let folded = (folded ^ (folded >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    folded ^ (folded >> 32)
}

fn high(value: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(value) * u128::from(bound)) >> 64).unwrap_or(0)
}

/// Chooses an index by Zipf's law in constant time: the nth choice has weight 1 / n^exponent.
///
/// Source: A. J. Walker's alias method, built as M. D. Vose describes it.
#[derive(Debug, Clone)]
pub struct Zipf {
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    threshold: u64,
    alias: usize,
}

impl Zipf {
    /// A law over `count` choices, at least one.
    pub fn new(count: usize, exponent: f64) -> Self {
        let count = count.max(1);
        let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
        let sum: f64 = weights.iter().sum();
        let mut scaled: Vec<f64> = weights.iter().map(|weight| weight * count as f64 / sum).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..count).partition(|index| scaled.get(*index).is_some_and(|weight| *weight < 1.0));
        let mut slots: Vec<Slot> = (0..count).map(|alias| Slot { threshold: u64::MAX, alias }).collect();
        while let (Some(less), Some(more)) = (small.pop(), large.pop()) {
            let weight = scaled.get(less).copied().unwrap_or(1.0);
            if let Some(slot) = slots.get_mut(less) {
                *slot = Slot { threshold: (weight * u64::MAX as f64) as u64, alias: more };
            }
            if let Some(rest) = scaled.get_mut(more) {
                *rest -= 1.0 - weight;
                if *rest < 1.0 { small.push(more) } else { large.push(more) }
            }
        }
        Self { slots }
    }

    /// An index.
    pub fn index(&self, random: &mut Random) -> usize {
        let at = usize::try_from(random.below(self.slots.len() as u64)).unwrap_or(0);
        match self.slots.get(at) {
            Some(slot) if random.next() > slot.threshold => slot.alias,
            _ => at,
        }
    }

    /// One of `items`, which should be as many as the law's choices; `None` if there are fewer.
    pub fn of<'a, T>(&self, items: &'a [T], random: &mut Random) -> Option<&'a T> {
        items.get(self.index(random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_prefers_early_choices_by_its_law() {
        let (law, mut random) = (Zipf::new(100, 1.0), Random::new(7, 0));
        let mut counts = vec![0_u32; 100];
        for _ in 0..1_000_000 {
            counts[law.index(&mut random)] += 1;
        }
        // 1 / H(100) = 0.1928 of all fall on the first, half of that on the second, a hundredth on the last.
        assert!((f64::from(counts[0]) / 192_800.0 - 1.0).abs() < 0.02, "{}", counts[0]);
        assert!((f64::from(counts[1]) / 96_400.0 - 1.0).abs() < 0.03, "{}", counts[1]);
        assert!((f64::from(counts[99]) / 1_928.0 - 1.0).abs() < 0.15, "{}", counts[99]);
    }

    #[test]
    fn a_seed_gives_one_sequence_and_streams_differ() {
        let take = |seed, stream| {
            let mut random = Random::new(seed, stream);
            (0..8).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(take(1, 1), take(1, 1));
        assert_ne!(take(1, 1), take(1, 2));
        assert_ne!(take(1, 1), take(2, 1));
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::new(3, 3);
        assert_eq!(random.below(0), 0);
        assert!((0..10_000).all(|_| random.below(7) < 7));
        let hits = (0..100_000).filter(|_| random.chance(30)).count();
        assert!((2_700..3_300).contains(&hits), "{hits}");
    }
}

//! Peer groups: how surprising it is that a principal does something, given what similar principals do.
//!
//! Poisson factorisation with a binary link (Turcotte, Moore, Heard, McPhall: "Poisson Factorization for Peer-Based Anomaly
//! Detection", 2016; Gopalan, Hofman, Blei: "Scalable Recommendation with Hierarchical Poisson Factorization", 2015; Zhou: "Infinite
//! Edge Partition Models", 2015). Each principal `u` and each item `i`, an operation or a network, has `K` non-negative
//! factors, and
//!
//! ```text
//! P(u does i) = 1 − e^(−λ)         λ = Σk θ(u, k) · β(i, k)
//! ```
//!
//! Factors have gamma priors and are found by coordinate ascent (mean-field variational inference): a seen pair counts as
//! `λ / (1 − e^(−λ))` latent events, shared out among the factors in proportion to `e^(E ln θ + E ln β)`; pairs that were not seen
//! are in the sums of the rates, and cost nothing. A round takes `pairs · K` steps, a score `K`.
//!
//! **The model does not learn what it found surprising**, see [`Peers::admitted`]: who does a bad action every day for a month
//! is as surprising on the last day as on the first.

use std::collections::{BTreeSet, HashMap};

use crate::{
    anomaly::{Anomaly, of_surprise},
    bytes::{Reader, Writer},
    random::Random,
};

/// Most factors.
const MAX_RANK: usize = 64;
/// The prior of factors: few large ones, most near 0.
const SHAPE: f64 = 0.3;
const RATE: f64 = 1.0;
/// The largest rate, and the least: chances stay away from 0 and 1.
const LEAST_RATE: f64 = 1e-9;
/// Most that a pair scores.
const MOST: f64 = 80.0;
/// From which surprise in nats on a pair is not learned: a chance of about 1 in 150.
const HELD_SURPRISE: f64 = 5.0;
/// From how many principals on that do the same surprising item it is a practice and no longer an oddity: these, or 1% of all.
const PRACTICE: usize = 3;
/// Principals that are named as the most alike.
const ALIKE: usize = 20;

/// How a model is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Factors, 1 to 64.
    pub rank: usize,
    /// Rounds of coordinate ascent.
    pub rounds: usize,
    /// Where the factors begin.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rank: 16, rounds: 40, seed: 1 }
    }
}

/// Names and their numbers.
#[derive(Debug, Clone, Default)]
struct Names {
    numbers: HashMap<Box<str>, u32>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(name.into(), number);
        number
    }

    fn get(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn encode(&self, to: &mut Writer) {
        let mut names: Vec<(&u32, &str)> = self.numbers.iter().map(|(name, number)| (number, &**name)).collect();
        names.sort_unstable();
        to.list(names.into_iter(), |to, (_, name)| to.text(name));
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let mut names = Self::default();
        for name in from.list(Reader::text)? {
            names.number(name);
        }
        Some(names)
    }
}

/// Factors of all principals, or of all items.
#[derive(Debug, Clone, Default)]
struct Factors {
    rank: usize,
    /// Means, row after row.
    means: Vec<f32>,
    /// The mean of all rows, for who has none.
    typical: Vec<f32>,
}

impl Factors {
    fn encode(&self, to: &mut Writer) {
        to.u64(self.rank as u64);
        for values in [&self.means, &self.typical] {
            to.list(values.iter(), |to, value| to.f32(*value));
        }
    }

    fn decode(from: &mut Reader<'_>, rows: usize) -> Option<Self> {
        let rank = usize::try_from(from.u64()?).ok().filter(|rank| *rank <= MAX_RANK)?;
        let (means, typical) = (from.list(Reader::f32)?, from.list(Reader::f32)?);
        (means.len() == rows * rank && typical.len() == rank).then_some(Self { rank, means, typical })
    }

    fn row(&self, number: Option<u32>) -> &[f32] {
        number.and_then(|number| self.means.get(number as usize * self.rank..(number as usize + 1) * self.rank)).unwrap_or(&self.typical)
    }
}

fn dot(left: &[f32], right: &[f32]) -> f64 {
    f64::from(left.iter().zip(right).map(|(left, right)| left * right).sum::<f32>())
}

/// A trained model.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    principals: Names,
    items: Names,
    theta: Factors,
    beta: Factors,
    /// Pairs it was trained on, sorted.
    pairs: Vec<(u32, u32)>,
    /// How many principals do an item.
    doing: Vec<u32>,
}

impl Peers {
    /// Trains a model on the pairs of principal and item that were seen, each once or more often: that they were, not how often,
    /// counts.
    #[must_use]
    pub fn train<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, settings: Settings) -> Self {
        // Sorted, so that the order in which pairs come does not matter.
        let pairs: BTreeSet<(&str, &str)> = pairs.into_iter().collect();
        let (mut principals, mut items) = (Names::default(), Names::default());
        let mut numbers: Vec<(u32, u32)> = pairs.into_iter().map(|(principal, item)| (principals.number(principal), items.number(item))).collect();
        numbers.sort_unstable();
        let mut doing = vec![0; items.len()];
        for (_, item) in &numbers {
            if let Some(count) = doing.get_mut(*item as usize) {
                *count += 1;
            }
        }
        let rank = settings.rank.clamp(1, MAX_RANK);
        let mut random = Random::new(settings.seed);
        let mut theta = Gamma::new(principals.len(), rank, &mut random);
        let mut beta = Gamma::new(items.len(), rank, &mut random);
        for _ in 0..settings.rounds {
            theta.update(&beta, &numbers);
            let turned: Vec<(u32, u32)> = numbers.iter().map(|(principal, item)| (*item, *principal)).collect();
            beta.update(&theta, &turned);
        }
        Self { principals, items, theta: theta.factors(), beta: beta.factors(), pairs: numbers, doing }
    }

    /// What it has learned.
    pub fn encode(&self, to: &mut Writer) {
        self.principals.encode(to);
        self.items.encode(to);
        self.theta.encode(to);
        self.beta.encode(to);
        to.list(self.pairs.iter(), |to, (principal, item)| {
            to.u32(*principal);
            to.u32(*item);
        });
    }

    /// A model that has learned that; `None` if it is not what [`Self::encode`] wrote.
    #[must_use]
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let (principals, items) = (Names::decode(from)?, Names::decode(from)?);
        let (theta, beta) = (Factors::decode(from, principals.len())?, Factors::decode(from, items.len())?);
        let pairs = from.list(|from| Some((from.u32()?, from.u32()?)))?;
        let mut doing = vec![0; items.len()];
        for (_, item) in &pairs {
            *doing.get_mut(*item as usize)? += 1;
        }
        pairs.is_sorted().then_some(Self { principals, items, theta, beta, pairs, doing })
    }

    /// Principals that it was trained on.
    #[must_use]
    pub fn principals(&self) -> usize {
        self.principals.len()
    }

    /// Pairs that it was trained on.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// The score of a pair: that of [`Self::anomaly`], without its reasons.
    #[must_use]
    pub fn score(&self, principal: &str, item: &str) -> f64 {
        of_surprise(self.surprise(principal, item), MOST)
    }

    /// The chance that a principal does an item. One that was never seen is taken for a typical one.
    #[must_use]
    pub fn chance(&self, principal: &str, item: &str) -> f64 {
        let (principal, item) = (self.principals.get(principal), self.items.get(item));
        -(-self.rate(principal, item)).exp_m1()
    }

    fn rate(&self, principal: Option<u32>, item: Option<u32>) -> f64 {
        let known = match item {
            Some(_) => dot(self.theta.row(principal), self.beta.row(item)),
            // What nobody ever did: as likely as what half a principal did.
            None => 0.5 / (self.principals.len() as f64 + 1.0),
        };
        known.max(LEAST_RATE)
    }

    /// The surprise of a pair, in nats: `−ln` of its chance.
    #[must_use]
    pub fn surprise(&self, principal: &str, item: &str) -> f64 {
        -self.chance(principal, item).ln()
    }

    /// Whether the pair is one that the model was trained on.
    #[must_use]
    pub fn knows(&self, principal: &str, item: &str) -> bool {
        match (self.principals.get(principal), self.items.get(item)) {
            (Some(principal), Some(item)) => self.pairs.binary_search(&(principal, item)).is_ok(),
            _ => false,
        }
    }

    /// Those pairs that the next model is to be trained on: what this one was trained on, what it does not find surprising (a
    /// chance of more than about 1 in 150), and what at least 3 principals do, and 1% of all, if it is surprising for each of them.
    /// All, if this one was trained on nothing.
    ///
    /// Any other pair is held back, however often it is repeated, until an analyst has said that it is benign, which is for the
    /// caller to know and to add.
    #[must_use]
    pub fn admitted<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
        let (mut admitted, mut held) = (Vec::new(), HashMap::<&str, BTreeSet<&str>>::new());
        for (principal, item) in pairs {
            if self.pairs.is_empty() || self.knows(principal, item) || self.surprise(principal, item) < HELD_SURPRISE {
                admitted.push((principal, item));
            } else {
                held.entry(item).or_default().insert(principal);
            }
        }
        let practice = PRACTICE.max(self.principals.len().div_ceil(100));
        for (item, principals) in held.into_iter().filter(|(_, principals)| principals.len() >= practice) {
            admitted.extend(principals.into_iter().map(|principal| (principal, item)));
        }
        admitted.sort_unstable();
        admitted
    }

    /// How surprising a pair is, `80 · (1 − e^(−surprise / 10))`, and what similar principals do.
    #[must_use]
    pub fn anomaly(&self, principal: &str, item: &str) -> Anomaly {
        let number = self.items.get(item);
        let doing = number.and_then(|number| self.doing.get(number as usize)).copied().unwrap_or_default();
        let alike = self.alike(principal, ALIKE);
        let same = alike.iter().filter(|other| number.is_some_and(|item| self.pairs.binary_search(&(**other, item)).is_ok())).count();
        let surprise = self.surprise(principal, item);
        Anomaly::new(
            of_surprise(surprise, MOST),
            format!("{item}: expected with a chance of {:.2}%", 100.0 * (-surprise).exp()),
            format!("{same} of the {} most similar principals do it, {doing} of all {}", alike.len(), self.principals.len()),
            vec![(format!("{same} of {} similar principals", alike.len()), 1.0)],
        )
    }

    /// The principals whose factors point most nearly the same way, without the principal itself.
    fn alike(&self, principal: &str, count: usize) -> Vec<u32> {
        let own = self.principals.get(principal);
        let row = self.theta.row(own);
        let length = |row: &[f32]| dot(row, row).sqrt().max(1e-12);
        let mut found: Vec<(f64, u32)> = (0..self.principals.len() as u32)
            .filter(|number| Some(*number) != own)
            .map(|number| {
                let other = self.theta.row(Some(number));
                (dot(row, other) / (length(row) * length(other)), number)
            })
            .collect();
        found.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        found.into_iter().take(count).map(|(_, number)| number).collect()
    }
}

/// Gamma distributions of factors while they are trained.
struct Gamma {
    rank: usize,
    /// Means and `e^(E ln)`, row after row.
    means: Vec<f64>,
    logs: Vec<f64>,
}

impl Gamma {
    fn new(rows: usize, rank: usize, random: &mut Random) -> Self {
        // Near 1, and different enough for the factors to part.
        let means: Vec<f64> = (0..rows * rank).map(|_| (0.5 + random.unit()) * SHAPE).collect();
        Self { rank, logs: means.clone(), means }
    }

    /// One round: the factors of these rows, given those of the other side. `pairs` are of own and other row.
    fn update(&mut self, other: &Self, pairs: &[(u32, u32)]) {
        let rank = self.rank;
        let mut rates = vec![RATE; rank];
        for row in other.means.chunks_exact(rank) {
            for (rate, mean) in rates.iter_mut().zip(row) {
                *rate += mean;
            }
        }
        let range = |row: u32| row as usize * rank..(row as usize + 1) * rank;
        let mut shapes = vec![SHAPE; self.means.len()];
        for (own, with) in pairs {
            let (Some(own_logs), Some(own_means)) = (self.logs.get(range(*own)), self.means.get(range(*own))) else { continue };
            let (Some(logs), Some(means)) = (other.logs.get(range(*with)), other.means.get(range(*with))) else { continue };
            let rate: f64 = own_means.iter().zip(means).map(|(own, other)| own * other).sum::<f64>().max(LEAST_RATE);
            let sum: f64 = own_logs.iter().zip(logs).map(|(own, other)| own * other).sum::<f64>().max(f64::MIN_POSITIVE);
            let latent = rate / -(-rate).exp_m1() / sum;
            if let Some(shapes) = shapes.get_mut(range(*own)) {
                for ((shape, own), other) in shapes.iter_mut().zip(own_logs).zip(logs) {
                    *shape += latent * own * other;
                }
            }
        }
        for (index, shape) in shapes.into_iter().enumerate() {
            let rate = rates.get(index % rank).copied().unwrap_or(RATE);
            if let (Some(mean), Some(log)) = (self.means.get_mut(index), self.logs.get_mut(index)) {
                *mean = shape / rate;
                *log = digamma(shape).exp() / rate;
            }
        }
    }

    fn factors(&self) -> Factors {
        let rows = (self.means.len() / self.rank).max(1) as f64;
        let mut typical = vec![0.0; self.rank];
        for row in self.means.chunks_exact(self.rank) {
            for (sum, mean) in typical.iter_mut().zip(row) {
                *sum += mean / rows;
            }
        }
        Factors { rank: self.rank, means: self.means.iter().map(|mean| *mean as f32).collect(), typical: typical.into_iter().map(|mean| mean as f32).collect() }
    }
}

/// The derivative of `ln Γ`, for positive numbers: recurrence up to 6, then the asymptotic series.
fn digamma(mut x: f64) -> f64 {
    let mut sum = 0.0;
    while x < 6.0 {
        sum -= 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    sum + x.ln() - 0.5 / x - square * (1.0 / 12.0 - square * (1.0 / 120.0 - square / 252.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEAMS: u64 = 6;
    const OPERATIONS: u64 = 40;

    /// A made-up account: teams with operations of their own that are done with different chances, some done by all, and each
    /// principal's day.
    struct Account {
        random: Random,
    }

    impl Account {
        fn team(principal: u64) -> u64 {
            principal % TEAMS
        }

        fn operation(&mut self, principal: u64) -> String {
            // Small numbers are more frequent: a power law.
            let number = (self.random.unit().powi(2) * OPERATIONS as f64) as u64;
            if self.random.unit() < 0.2 { format!("all:{number}") } else { format!("team{}:{number}", Self::team(principal)) }
        }

        fn day(&mut self, principals: u64) -> Vec<(String, String)> {
            let mut pairs = Vec::new();
            for principal in 0..principals {
                for _ in 0..4 {
                    pairs.push((format!("user{principal}"), self.operation(principal)));
                }
            }
            pairs
        }
    }

    fn train(pairs: &[(String, String)]) -> Peers {
        Peers::train(pairs.iter().map(|(principal, item)| (principal.as_str(), item.as_str())), Settings::default())
    }

    fn retrain(peers: &Peers, pairs: &[(String, String)]) -> Peers {
        Peers::train(peers.admitted(pairs.iter().map(|(principal, item)| (principal.as_str(), item.as_str()))), Settings::default())
    }

    /// The chance that one of `above` is more than one of `below`; ties count half.
    fn area(above: &[f64], below: &[f64]) -> f64 {
        let wins = |left: &f64| {
            below
                .iter()
                .map(|right| {
                    if left > right {
                        1.0
                    } else if left == right {
                        0.5
                    } else {
                        0.0
                    }
                })
                .sum::<f64>()
        };
        above.iter().map(wins).sum::<f64>() / (above.len() * below.len()) as f64
    }

    #[test]
    fn peers_beat_plain_newness_on_held_out_days() {
        let mut account = Account { random: Random::new(11) };
        let past: Vec<(String, String)> = (0..10).flat_map(|_| account.day(200)).collect();
        let peers = train(&past);
        // Held-out days: what is usual, new or not, and principals that do what another team does.
        let benign: Vec<(String, String)> = (0..3).flat_map(|_| account.day(200)).collect();
        let mut attacks = Vec::new();
        for index in 0..150 {
            let (principal, other) = (index % 200, index + 1 + index % (TEAMS - 1));
            let item = account.operation(other);
            if Account::team(principal) != Account::team(other) && item.starts_with("team") {
                attacks.push((format!("user{principal}"), item));
            }
        }
        assert!(attacks.len() > 80);
        let score =
            |pairs: &[(String, String)], of: &dyn Fn(&str, &str) -> f64| -> Vec<f64> { pairs.iter().map(|(principal, item)| of(principal, item)).collect() };
        let by_peers = |principal: &str, item: &str| peers.surprise(principal, item);
        let newness = |principal: &str, item: &str| f64::from(u8::from(!peers.knows(principal, item)));
        let [ours, plain] = [&by_peers as &dyn Fn(&str, &str) -> f64, &newness].map(|of| area(&score(&attacks, of), &score(&benign, of)));
        assert!(ours > 0.97 && ours > plain + 0.05, "peers {ours}, newness {plain}");
        // Among what is new alone, newness says nothing.
        let new: Vec<(String, String)> = benign.into_iter().filter(|(principal, item)| !peers.knows(principal, item)).collect();
        let ours = area(&score(&attacks, &by_peers), &score(&new, &by_peers));
        assert!(ours > 0.95, "{ours}");
    }

    #[test]
    fn a_bad_action_repeated_for_a_month_stays_in_the_top() {
        let mut account = Account { random: Random::new(5) };
        let mut learned: Vec<(String, String)> = (0..10).flat_map(|_| account.day(120)).collect();
        let mut peers = train(&learned);
        let attack = ("user3".to_owned(), "team1:0".to_owned());
        let mut first = 0.0;
        for day in 0..30 {
            let mut today = account.day(120);
            today.push(attack.clone());
            let surprise = peers.surprise(&attack.0, &attack.1);
            if day == 0 {
                first = surprise;
            }
            if day == 29 {
                let above = today.iter().filter(|(principal, item)| peers.surprise(principal, item) > surprise).count();
                assert!((above as f64) < 0.01 * today.len() as f64, "{above} of {} are above", today.len());
                assert!(surprise > first * 0.7, "{surprise}, at first {first}");
            }
            learned.extend(today);
            if day % 5 == 4 {
                peers = retrain(&peers, &learned);
            }
        }
    }

    #[test]
    fn what_becomes_a_practice_is_learned() {
        let mut account = Account { random: Random::new(8) };
        let mut pairs: Vec<(String, String)> = (0..10).flat_map(|_| account.day(200)).collect();
        let peers = train(&pairs);
        let used = |count: u64| (0..count).map(|index| (format!("user{}", index * TEAMS), "new:tool".to_owned()));
        pairs.extend(used(2).chain(used(2)));
        assert!(!retrain(&peers, &pairs).knows("user0", "new:tool"), "two of the team, however often");
        pairs.extend(used(5));
        let peers = retrain(&peers, &pairs);
        assert!(peers.knows("user0", "new:tool"));
        let (team, other) = (peers.surprise("user60", "new:tool"), peers.surprise("user61", "new:tool"));
        assert!(team < HELD_SURPRISE && other > team + 1.0, "{team} {other}");
    }

    #[test]
    fn the_reasons_are_told() {
        let mut account = Account { random: Random::new(2) };
        let pairs: Vec<(String, String)> = (0..10).flat_map(|_| account.day(60)).collect();
        let peers = train(&pairs);
        let strange = peers.anomaly("user0", "team1:0");
        assert!(strange.baseline.ends_with("of the 20 most similar principals do it, 9 of all 60"), "{}", strange.baseline);
        let usual = peers.anomaly("user0", "team0:0");
        assert!(usual.score < 10.0 && strange.score > 20.0, "{} {}", usual.score, strange.score);
    }

    #[test]
    fn nothing_learned_and_nobody_known_is_taken() {
        let nothing = Peers::train([], Settings { rank: 0, rounds: 3, seed: 0 });
        assert_eq!(nothing.admitted([("a", "b")]), [("a", "b")]);
        assert!(!nothing.knows("a", "b"));
        assert!(nothing.surprise("a", "b").is_finite() && nothing.anomaly("a", "b").score > 0.0);
        let one = Peers::train([("a", "b"), ("a", "b")], Settings::default());
        assert!(one.chance("a", "b") > one.chance("a", "c"));
        assert!(one.surprise("z", "b").is_finite());
    }

    #[test]
    fn digamma_is_right() {
        for (x, expected) in [(1.0, -0.577_215_664_901_532_9), (0.5, -1.963_510_026_021_423_5), (10.0, 2.251_752_589_066_721)] {
            assert!((digamma(x) - expected).abs() < 1e-8, "{x}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn chances_are_chances_and_order_does_not_matter(pairs in prop::collection::vec((0..12_u8, 0..12_u8), 0..80), rank in 0..100_usize) {
            let pairs: Vec<(String, String)> = pairs.into_iter().map(|(principal, item)| (format!("u{principal}"), format!("i{item}"))).collect();
            let peers = Peers::train(pairs.iter().map(|(principal, item)| (principal.as_str(), item.as_str())), Settings { rank, rounds: 5, seed: 3 });
            let turned = Peers::train(pairs.iter().rev().map(|(principal, item)| (principal.as_str(), item.as_str())), Settings { rank, rounds: 5, seed: 3 });
            for principal in 0..13 {
                for item in 0..13 {
                    let (principal, item) = (format!("u{principal}"), format!("i{item}"));
                    let chance = peers.chance(&principal, &item);
                    prop_assert!(chance > 0.0 && chance <= 1.0);
                    prop_assert_eq!(turned.chance(&principal, &item), chance);
                    prop_assert_eq!(peers.knows(&principal, &item), pairs.contains(&(principal.clone(), item.clone())));
                    let anomaly = peers.anomaly(&principal, &item);
                    prop_assert!((0.0..=MOST).contains(&anomaly.score));
                }
            }
        }
    }
}

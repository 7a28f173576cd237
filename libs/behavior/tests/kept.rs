//! What was learned, kept and taken up again, goes on as if nothing had been; and damaged bytes are refused.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a panic is the message")]

use gumshoe_behavior::{
    budget::Budget,
    bytes::{Reader, Writer},
    midas::{self, Midas},
    peers::{self, Peers},
    spot::{self, Spot},
};
use gumshoe_model::{Timestamp, time::MICROS_PER_HOUR};
use proptest::prelude::*;

fn again<T>(encode: impl Fn(&mut Writer), decode: impl Fn(&mut Reader<'_>) -> Option<T>) -> T {
    let mut writer = Writer::default();
    encode(&mut writer);
    let bytes = writer.finish();
    for cut in [0, bytes.len() / 2, bytes.len() - 1] {
        assert!(decode(&mut Reader::new(&bytes[..cut])).is_none(), "cut at {cut} of {}", bytes.len());
    }
    let mut reader = Reader::new(&bytes);
    let read = decode(&mut reader).unwrap();
    assert!(reader.is_empty());
    read
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn detectors_go_on_where_they_were(values in prop::collection::vec((0..40_u64, 0..9_u64, 0.0..100.0_f64), 1..400), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(values.len());
        let mut midas = Midas::new(midas::Settings { columns: 64, seed: 7, ..Default::default() });
        let mut spot = Spot::new(spot::Settings { risk: 1e-2, calibration: 40, ..Default::default() });
        let mut budget = Budget::new(1.0, 20.0);
        let step = |index: usize, midas: &mut Midas, spot: &mut Spot, budget: &mut Budget| {
            let (source, destination, score) = values[index];
            let time = Timestamp(1_700_000_000_000_000 + index as i64 * MICROS_PER_HOUR / 7);
            (midas.observe(source, destination, index as u64 / 7, score as u32), spot.observe(score), budget.offer(score, source, time), spot.threshold())
        };
        for index in 0..cut {
            step(index, &mut midas, &mut spot, &mut budget);
        }
        let mut kept_midas = again(|to| midas.encode(to), Midas::decode);
        let mut kept_spot = again(|to| spot.encode(to), Spot::decode);
        let mut kept_budget = again(|to| budget.encode(to), |from| Budget::decode(from, 1.0, 20.0));
        for index in cut..values.len() {
            let expected = step(index, &mut midas, &mut spot, &mut budget);
            prop_assert_eq!(step(index, &mut kept_midas, &mut kept_spot, &mut kept_budget), expected);
        }
        prop_assert_eq!(budget.held(), kept_budget.held());
    }

    #[test]
    fn models_say_the_same(pairs in prop::collection::vec(("[a-f]", "[g-z]"), 1..60)) {
        let model = Peers::train(pairs.iter().map(|(principal, item)| (principal.as_str(), item.as_str())), peers::Settings { rounds: 5, ..Default::default() });
        let kept = again(|to| model.encode(to), Peers::decode);
        for principal in ["a", "f", "nobody"] {
            for item in ["g", "z", "nothing"] {
                prop_assert_eq!(kept.anomaly(principal, item), model.anomaly(principal, item));
                prop_assert_eq!(kept.knows(principal, item), model.knows(principal, item));
            }
        }
        prop_assert_eq!(kept.pairs(), model.pairs());
    }

    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Midas::decode(&mut Reader::new(&bytes));
        let _ = Spot::decode(&mut Reader::new(&bytes));
        let _ = Budget::decode(&mut Reader::new(&bytes), 1.0, 20.0);
        let _ = Peers::decode(&mut Reader::new(&bytes));
    }
}

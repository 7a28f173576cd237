//! How much something matters, in five words.

use std::{fmt, str::FromStr};

use crate::Invalid;

/// How much a match of a rule, or the risk of an entity, matters: a score from 0 to 100 in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Nothing by itself; context for others. Below 20.
    Informational,
    /// Seen every day; matters beside others. Below 40.
    Low,
    /// To be looked at. Below 70.
    Medium,
    /// Rarely benign. Below 90.
    High,
    /// Hardly ever benign, and grave. 90 and more.
    Critical,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Self; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The level of a score from 0 to 100.
    #[must_use]
    pub fn of_score(score: f64) -> Self {
        match score {
            score if score >= 90.0 => Self::Critical,
            score if score >= 70.0 => Self::High,
            score if score >= 40.0 => Self::Medium,
            score if score >= 20.0 => Self::Low,
            _ => Self::Informational,
        }
    }

    /// The score from 0 to 100 of something that has a level only.
    #[must_use]
    pub fn score(self) -> f64 {
        match self {
            Self::Informational => 5.0,
            Self::Low => 20.0,
            Self::Medium => 45.0,
            Self::High => 75.0,
            Self::Critical => 95.0,
        }
    }

    /// The one below; the lowest has none.
    #[must_use]
    pub fn lower(self) -> Self {
        match self {
            Self::Critical => Self::High,
            Self::High => Self::Medium,
            Self::Medium => Self::Low,
            Self::Low | Self::Informational => Self::Informational,
        }
    }

    /// The name in rules and answers: `medium`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == value);
        found.ok_or_else(|| Invalid::new("level", value, "expected informational, low, medium, high or critical"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_rise() {
        assert!(Level::ALL.is_sorted() && Level::ALL.map(Level::score).is_sorted());
        assert!("urgent".parse::<Level>().is_err() && "high".parse() == Ok(Level::High));
    }

    #[test]
    fn levels_begin_where_they_say() {
        for (score, level) in [
            (0.0, "informational"),
            (19.99, "informational"),
            (20.0, "low"),
            (40.0, "medium"),
            (70.0, "high"),
            (89.9, "high"),
            (90.0, "critical"),
            (100.0, "critical"),
        ] {
            assert_eq!(Level::of_score(score).as_str(), level);
        }
        assert!(Level::ALL.into_iter().all(|level| Level::of_score(level.score()) == level));
    }
}

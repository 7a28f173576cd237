//! Finding entities by what is known of them: exact value, prefix, wildcard or CIDR block.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use gumshoe_api::{
    convert::{entity_to_proto, time_to_proto},
    graph::v1::EntitySummary,
};
use gumshoe_lake::GraphLake;
use gumshoe_model::{EntityKey, EntityType, Timestamp};
use gumshoe_runtime::status;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    rows::{self, Answer, Parameters},
    rpc::page::Page,
};

/// The longest text to search for, in characters.
pub(crate) const MAX_TEXT: usize = 512;
/// Aliases kept of one entity.
const MAX_ALIASES: usize = 100;

/// What is known of an entity at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) account: String,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

/// The last entity of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    kind: String,
    id: String,
}

/// What to search for.
#[derive(Debug, Clone)]
enum Needle {
    /// A pattern of LIKE for id, name or alias.
    Pattern(String),
    /// Addresses in a block.
    Block(IpNet),
}

/// Reads the text of a search.
fn needle(text: &str) -> Answer<Needle> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_TEXT {
        return Err(status::invalid_argument("text", "is required and at most 512 characters"));
    }
    if text.contains('/')
        && let Ok(block) = text.parse::<IpNet>()
    {
        return Ok(Needle::Block(block.trunc()));
    }
    // Addresses stand in the graph in their canonical form.
    let canonical = text.parse::<IpAddr>().map(|address| address.to_string());
    Ok(Needle::Pattern(pattern(canonical.as_deref().unwrap_or(bare(text)))))
}

/// Buckets and instances are known by name and id; their ARNs end in these.
fn bare(text: &str) -> &str {
    let resource = |marker: &str| text.starts_with("arn:").then(|| text.split_once(marker)).flatten().map(|(_, rest)| rest);
    resource(":s3:::").filter(|name| !name.contains('/')).or_else(|| resource(":instance/")).unwrap_or(text)
}

/// `*` and `?` as `%` and `_`, with these and the escape character themselves taken literally.
pub(crate) fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '*' => pattern.push('%'),
            '?' => pattern.push('_'),
            '%' | '_' | '\\' => pattern.extend(['\\', character]),
            other => pattern.push(other),
        }
    }
    pattern
}

/// A page of entities, by type name and id.
pub(crate) async fn search(lake: &GraphLake, text: &str, kinds: &[EntityType], size: usize, after: Option<Cursor>) -> Answer<Page<EntitySummary, Cursor>> {
    let keys = match needle(text)? {
        Needle::Pattern(pattern) => matching(lake, pattern, kinds, size + 1, after).await?,
        Needle::Block(block) if kinds.is_empty() || kinds.contains(&EntityType::IpAddress) => inside(lake, block, size + 1, after).await?,
        Needle::Block(_) => Vec::new(),
    };
    let summaries = summaries(lake, &keys).await?;
    let mut page = Page::new(size);
    for key in keys {
        let Some(summary) = summaries.get(&key) else { continue };
        let cursor = Cursor { kind: key.kind.as_str().to_owned(), id: key.id.clone() };
        if !page.push(summary.to_proto(&key), cursor) {
            break;
        }
    }
    Ok(page)
}

/// The first `limit` entities that match a pattern.
async fn matching(lake: &GraphLake, pattern: String, kinds: &[EntityType], limit: usize, after: Option<Cursor>) -> Answer<Vec<EntityKey>> {
    let mut parameters = Parameters::new();
    parameters.text("pattern", pattern);
    let mut condition = "(entity_id ILIKE $pattern OR name ILIKE $pattern OR alias ILIKE $pattern)".to_owned();
    if !kinds.is_empty() {
        let names: BTreeSet<_> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
        condition += &format!(" AND entity_type IN ({})", names.into_iter().collect::<Vec<_>>().join(", "));
    }
    if let Some(after) = after {
        parameters.text("after_type", after.kind);
        parameters.text("after_id", after.id);
        condition += " AND entity_type >= $after_type AND (entity_type > $after_type OR entity_id > $after_id)";
    }
    let sql =
        format!("SELECT entity_type, entity_id FROM entities WHERE {condition} GROUP BY entity_type, entity_id ORDER BY entity_type, entity_id LIMIT {limit}");
    let mut keys = Vec::new();
    rows::each(lake, &sql, parameters, |columns| {
        let (types, ids) = (columns.texts("entity_type")?, columns.texts("entity_id")?);
        for row in 0..columns.len() {
            keys.push(rows::entity(types.get(row), ids.get(row))?);
        }
        Ok(true)
    })
    .await?;
    Ok(keys)
}

/// The first `limit` addresses in a block, by their text.
async fn inside(lake: &GraphLake, block: IpNet, limit: usize, after: Option<Cursor>) -> Answer<Vec<EntityKey>> {
    let mut parameters = Parameters::new();
    parameters.text("pattern", block_pattern(&block));
    let mut condition = "entity_type = 'ip_address' AND entity_id LIKE $pattern".to_owned();
    if let Some(after) = after {
        parameters.text("after_id", after.id);
        condition += " AND entity_id > $after_id";
    }
    let sql = format!("SELECT entity_id FROM entities WHERE {condition} GROUP BY entity_id ORDER BY entity_id");
    let mut keys = Vec::new();
    rows::each(lake, &sql, parameters, |columns| {
        let ids = columns.texts("entity_id")?;
        for row in 0..columns.len() {
            let id = ids.get(row);
            if keys.len() < limit && id.parse::<IpAddr>().is_ok_and(|address| block.contains(&address)) {
                keys.push(EntityKey { kind: EntityType::IpAddress, id: id.to_owned() });
            }
        }
        Ok(keys.len() < limit)
    })
    .await?;
    Ok(keys)
}

/// What the text of every address in a block looks like: the whole octets of an IPv4 block, a colon for IPv6.
fn block_pattern(block: &IpNet) -> String {
    match block {
        IpNet::V4(block) => {
            let octets = usize::from(block.prefix_len() / 8);
            let prefix: Vec<_> = block.network().octets().iter().take(octets).map(ToString::to_string).collect();
            match octets {
                0 => "%.%".to_owned(),
                4 => prefix.join("."),
                _ => prefix.join(".") + ".%",
            }
        }
        IpNet::V6(_) => "%:%".to_owned(),
    }
}

/// What is known of each of these entities; those never seen are absent.
pub(crate) async fn summaries(lake: &GraphLake, keys: &[EntityKey]) -> Answer<BTreeMap<EntityKey, Summary>> {
    let mut found: BTreeMap<EntityKey, Summary> = BTreeMap::new();
    if keys.is_empty() {
        return Ok(found);
    }
    let mut parameters = Parameters::new();
    let condition = parameters.entities("e", "entity_type", "entity_id", keys);
    let sql = format!(
        "SELECT entity_type, entity_id, name, alias, account, min(first_time) AS first_time, max(last_time) AS last_time \
         FROM entities WHERE {condition} GROUP BY entity_type, entity_id, name, alias, account ORDER BY last_time, name, alias, account"
    );
    rows::each(lake, &sql, parameters, |columns| {
        let (types, ids) = (columns.texts("entity_type")?, columns.texts("entity_id")?);
        let (names, aliases, accounts) = (columns.texts("name")?, columns.texts("alias")?, columns.texts("account")?);
        let (firsts, lasts) = (columns.numbers("first_time")?, columns.numbers("last_time")?);
        for row in 0..columns.len() {
            let key = rows::entity(types.get(row), ids.get(row))?;
            let summary = found.entry(key).or_insert_with(|| Summary {
                name: String::new(),
                aliases: Vec::new(),
                account: String::new(),
                first: firsts.time(row),
                last: lasts.time(row),
            });
            summary.first = summary.first.min(firsts.time(row));
            summary.last = summary.last.max(lasts.time(row));
            // Rows come oldest first: the latest name counts.
            for (known, text) in [(&mut summary.name, names.get(row)), (&mut summary.account, accounts.get(row))] {
                if !text.is_empty() {
                    text.clone_into(known);
                }
            }
            let alias = aliases.get(row);
            if !alias.is_empty() && summary.aliases.len() < MAX_ALIASES && !summary.aliases.iter().any(|known| known == alias) {
                summary.aliases.push(alias.to_owned());
            }
        }
        Ok(true)
    })
    .await?;
    for summary in found.values_mut() {
        summary.aliases.sort_unstable();
    }
    Ok(found)
}

impl Summary {
    /// The summary as its message.
    pub(crate) fn to_proto(&self, key: &EntityKey) -> EntitySummary {
        EntitySummary {
            entity: Some(entity_to_proto(key)),
            name: self.name.clone(),
            aliases: self.aliases.clone(),
            account_id: self.account.clone(),
            first_time: Some(time_to_proto(self.first)),
            last_time: Some(time_to_proto(self.last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern_of(text: &str) -> String {
        match needle(text).unwrap() {
            Needle::Pattern(pattern) => pattern,
            Needle::Block(block) => panic!("{block}"),
        }
    }

    #[test]
    fn wildcards_are_translated_and_their_targets_escaped() {
        assert_eq!(pattern_of("alice"), "alice");
        assert_eq!(pattern_of(" al*ce? "), "al%ce_");
        assert_eq!(pattern_of(r"100%_\x"), r"100\%\_\\x");
        assert_eq!(pattern_of("2001:DB8:0:0::1"), "2001:db8::1");
        assert_eq!(pattern_of("arn:aws:s3:::my-bucket"), "my-bucket");
        assert_eq!(pattern_of("arn:aws:s3:::my-bucket/key"), "arn:aws:s3:::my-bucket/key");
        assert_eq!(pattern_of("arn:aws:ec2:us-east-1:111122223333:instance/i-1"), "i-1");
        assert_eq!(pattern_of("role/team/24"), "role/team/24");
    }

    #[test]
    fn blocks_are_known_and_narrowed() {
        for (text, expected) in [
            ("10.1.2.3/8", "10.%"),
            ("10.1.2.3/9", "10.%"),
            ("10.1.0.0/16", "10.1.%"),
            ("10.1.2.0/24", "10.1.2.%"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0", "%.%"),
            ("2001:db8::/32", "%:%"),
        ] {
            match needle(text).unwrap() {
                Needle::Block(block) => assert_eq!(block_pattern(&block), expected, "{text}"),
                Needle::Pattern(pattern) => panic!("{pattern}"),
            }
        }
    }

    #[test]
    fn refuses_empty_and_endless_text() {
        for text in ["", "  ", &"x".repeat(513)] {
            assert_eq!(needle(text).unwrap_err().field_violations[0].0, "text");
        }
        assert!(needle(&"é".repeat(512)).is_ok());
    }
}

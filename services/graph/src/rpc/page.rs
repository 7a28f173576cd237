//! Pages of a listing: cut by number and by bytes.

use gumshoe_runtime::status;
use prost::Message;

use crate::rows::Answer;

/// A page stops at about this many bytes, well under the 4 MiB that gRPC clients accept by default.
const MAX_PAGE_BYTES: usize = 3 << 20;

/// A message of a stream is cut at about this many bytes.
pub(crate) const MESSAGE_BYTES: usize = 1 << 20;

/// A page size out of a request: 0 means `default`.
pub(crate) fn page_size(field: &str, size: i32, default: usize) -> Answer<usize> {
    match usize::try_from(size) {
        Ok(0) => Ok(default),
        Ok(size) if size <= 1_000 => Ok(size),
        _ => Err(status::invalid_argument(field, "must lie between 1 and 1000, or be 0 for the default")),
    }
}

/// A page under way: takes items until it is full, by number or by bytes, and remembers where the next one starts.
pub(crate) struct Page<T, C> {
    /// What is on it.
    pub(crate) items: Vec<T>,
    /// After what the next page starts; `None` at the end.
    pub(crate) next: Option<C>,
    size: usize,
    bytes: usize,
    last: Option<C>,
}

impl<T: Message, C> Page<T, C> {
    pub(crate) fn new(size: usize) -> Self {
        Self { items: Vec::new(), next: None, size, bytes: 0, last: None }
    }

    /// Adds an item; false when the page was full, and the item belongs to the next one.
    pub(crate) fn push(&mut self, item: T, cursor: C) -> bool {
        let length = item.encoded_len() + 8;
        // At least one item a page, or a listing would never end.
        if !self.items.is_empty() && (self.items.len() >= self.size || self.bytes + length > MAX_PAGE_BYTES) {
            self.next = self.last.take();
            return false;
        }
        self.bytes += length;
        self.items.push(item);
        self.last = Some(cursor);
        true
    }
}

/// Cuts the items of a stream into messages of at most `number` items and about `bytes` bytes.
pub(crate) fn messages<T: Message>(items: impl IntoIterator<Item = T>, number: usize, bytes: usize) -> Vec<Vec<T>> {
    let mut messages = Vec::new();
    let mut message = Vec::new();
    let mut length = 0;
    for item in items {
        length += item.encoded_len();
        message.push(item);
        if message.len() >= number || length >= bytes {
            length = 0;
            messages.push(std::mem::take(&mut message));
        }
    }
    if !message.is_empty() {
        messages.push(message);
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_cut_by_number_and_by_bytes() {
        let mut page = Page::new(2);
        assert!(page.push("a".to_owned(), 1));
        assert!(page.push("b".to_owned(), 2));
        assert_eq!(page.next, None);
        assert!(!page.push("c".to_owned(), 3));
        assert_eq!((page.items.len(), page.next), (2, Some(2)));

        let mut page = Page::new(1_000);
        let large = "x".repeat(2 << 20);
        assert!(page.push("x".repeat(8 << 20), 1), "the first always fits");
        assert!(!page.push(large.clone(), 2));
        let mut page = Page::new(1_000);
        assert!(page.push(large.clone(), 1));
        assert!(!page.push(large, 2));
        assert_eq!(page.next, Some(1));
    }

    #[test]
    fn messages_hold_all_items_in_order() {
        let cut = messages((0..10).map(|number| number.to_string()), 4, 1 << 20);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(cut.concat().len(), 10);
        let cut = messages(["x".repeat(600), "y".repeat(600), "z".to_owned()], 100, 1_000);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert!(messages(Vec::<String>::new(), 1, 1).is_empty());
    }
}

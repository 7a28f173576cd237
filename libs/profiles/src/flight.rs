//! One builder for each absent value, with the others waiting for its result.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::Key;

type Cells = Mutex<HashMap<Key, Arc<OnceCell<Bytes>>>>;

/// The builds under way. Holds an entry no longer than somebody waits for it.
#[derive(Debug, Default)]
pub(crate) struct Flights(Arc<Cells>);

impl Flights {
    /// Joins the build of `key`, or opens it.
    pub(crate) fn join(&self, key: &Key) -> Flight {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = Arc::clone(cells.entry(key.clone()).or_default());
        Flight { cells: Arc::clone(&self.0), key: key.clone(), cell }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A seat in a build; the last one to leave takes the entry away.
pub(crate) struct Flight {
    cells: Arc<Cells>,
    key: Key,
    cell: Arc<OnceCell<Bytes>>,
}

impl Flight {
    /// The value: built by this call if nobody has, else the others' result.
    pub(crate) async fn value<E>(&self, build: impl Future<Output = Result<Bytes, E>>) -> Result<Bytes, E> {
        self.cell.get_or_try_init(|| build).await.cloned()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        // Two holders: the map and this seat. Seats are only taken under the lock, so nobody joins in between.
        if Arc::strong_count(&self.cell) == 2 {
            cells.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_callers_build_once_and_leave_nothing_behind() {
        let flights = Flights::default();
        let key = Key("k".to_owned());
        let built = AtomicUsize::new(0);
        let gate = tokio::sync::Barrier::new(8);
        let call = || async {
            let flight = flights.join(&key);
            gate.wait().await;
            let value = flight
                .value(async {
                    built.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    Ok::<_, ()>(Bytes::from_static(b"v"))
                })
                .await;
            value.unwrap()
        };
        let values = tokio::join!(call(), call(), call(), call(), call(), call(), call(), call());
        assert_eq!(values.0, values.7);
        assert_eq!(built.load(Ordering::SeqCst), 1);
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn failed_build_is_tried_again_by_the_next_caller() {
        let flights = Flights::default();
        let key = Key("k".to_owned());
        let (first, second) = (flights.join(&key), flights.join(&key));
        assert_eq!(first.value(async { Err("down") }).await, Err("down"));
        assert_eq!(second.value(async { Ok::<_, &str>(Bytes::from_static(b"v")) }).await, Ok(Bytes::from_static(b"v")));
        drop((first, second));
        assert_eq!(flights.len(), 0);
    }
}

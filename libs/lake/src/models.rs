//! What was learned from a graph's tables and can be learned again: objects beside them, written whole, never changed, named after
//! their content.

use bytes::Bytes;
use object_store::{ObjectStoreExt as _, PutPayload, path::Path};
use xxhash_rust::xxh3::xxh3_128;

use crate::{GraphLake, LakeError};

impl GraphLake {
    /// Stores a model under a name that begins with `kind` and ends with the checksum of its content: `peers-…`. Stored twice, it is
    /// there once.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the store does not answer.
    pub async fn store_model(&self, kind: &str, content: Bytes) -> Result<String, LakeError> {
        let name = name(kind, &content);
        self.models.put(&Path::from(name.as_str()), PutPayload::from_bytes(content)).await?;
        Ok(name)
    }

    /// A model by its name; `None` if it is not there, or is not what was stored: then it has to be learned again.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the store does not answer.
    pub async fn model(&self, model: &str) -> Result<Option<Bytes>, LakeError> {
        let content = match self.models.get(&Path::from(model)).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let kind = model.rsplit_once('-').map_or(model, |(kind, _)| kind);
        if name(kind, &content) == model {
            return Ok(Some(content));
        }
        tracing::warn!(graph = %self.arn(), model, "a model is damaged, and is made again");
        Ok(None)
    }

    /// Removes a model that nobody needs any more.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the store does not answer.
    pub async fn remove_model(&self, model: &str) -> Result<(), LakeError> {
        match self.models.delete(&Path::from(model)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn name(kind: &str, content: &[u8]) -> String {
    format!("{kind}-{:032x}", xxh3_128(content))
}

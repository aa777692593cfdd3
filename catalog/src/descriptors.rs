//! What was read of descriptors, so that one is read again only when its size or its time of last change is another.

use std::collections::HashMap;

use jiff::Timestamp;
use stackferry_volume::io::MAX_SMALL_READ;

use crate::convert::{Row, stamp};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::volumes::DatastoreKey;

/// The longest content that is kept of one descriptor, in bytes: no more of it is ever read.
pub const MAX_CACHED_DESCRIPTOR: usize = MAX_SMALL_READ;

/// A descriptor as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorRow {
    /// The file's length in bytes, as the folder listed it.
    pub bytes: u64,
    /// Its time of last change.
    pub mtime: Timestamp,
    /// What was read, at most [`MAX_CACHED_DESCRIPTOR`] bytes.
    pub content: Vec<u8>,
}

impl Catalog {
    /// The descriptors of a datastore, by path.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn cached_descriptors(
        &self,
        datastore: &DatastoreKey,
    ) -> Result<HashMap<String, DescriptorRow>, CatalogError> {
        let mut session = self.session("reading the cached descriptors", &datastore.datastore).await?;
        let query =
            sqlx::query("SELECT path, bytes, mtime, content FROM descriptors WHERE site = $1 AND datastore = $2")
                .bind(&datastore.site.0)
                .bind(&datastore.datastore);
        let read = |row: &Row<'_>| {
            let descriptor =
                DescriptorRow { bytes: row.count("bytes")?, mtime: row.time("mtime")?, content: row.bytes("content")? };
            Ok((row.text("path")?, descriptor))
        };
        Ok(session.all(query, read).await?.into_iter().collect())
    }

    /// Makes the cache of a datastore hold these, by path, and no others; only what differs is written. To be called
    /// after a full scan. One durable transaction.
    ///
    /// # Errors
    /// `DescriptorTooLong`, `Range`, `Row`, or `Database`.
    pub async fn store_descriptors(
        &self,
        datastore: &DatastoreKey,
        seen: &HashMap<String, DescriptorRow>,
    ) -> Result<(), CatalogError> {
        if let Some((path, long)) = seen.iter().find(|(_, one)| one.content.len() > MAX_CACHED_DESCRIPTOR) {
            return Err(CatalogError::DescriptorTooLong {
                datastore: datastore.datastore.clone(),
                path: path.clone(),
                bytes: long.content.len(),
                most: MAX_CACHED_DESCRIPTOR,
            });
        }
        // Compared outside the write lock: two scans of one datastore at once only write a little more or less, and
        // the cache is never believed without size and time.
        let known = self.cached_descriptors(datastore).await?;
        let changed: Vec<_> = seen.iter().filter(|(path, one)| known.get(*path) != Some(one)).collect();
        let gone: Vec<_> = known.keys().filter(|path| !seen.contains_key(*path)).collect();
        if changed.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let mut tx = self.write("caching descriptors", &datastore.datastore).await?;
        for path in gone {
            let statement = sqlx::query("DELETE FROM descriptors WHERE site = $1 AND datastore = $2 AND path = $3")
                .bind(&datastore.site.0)
                .bind(&datastore.datastore)
                .bind(path);
            tx.execute(statement).await?;
        }
        for (path, one) in changed {
            let statement = sqlx::query(
                "INSERT INTO descriptors (site, datastore, path, bytes, mtime, content) \
                 VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (site, datastore, path) DO UPDATE SET bytes = excluded.bytes, \
                   mtime = excluded.mtime, content = excluded.content",
            )
            .bind(&datastore.site.0)
            .bind(&datastore.datastore)
            .bind(path)
            .bind(tx.number("bytes", one.bytes)?)
            .bind(stamp(one.mtime))
            .bind(&one.content);
            tx.execute(statement).await?;
        }
        tx.commit().await
    }
}

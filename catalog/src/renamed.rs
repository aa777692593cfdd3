//! A datastore that got another name: what is known of the places on it moves along.

use stackferry_volume::SiteName;

use crate::error::CatalogError;
use crate::pool::Catalog;

/// In each table that knows places: what gives way, and what moves. A baseline is one of a volume, too.
const STEPS: [&str; 6] = [
    "DELETE FROM baselines AS t WHERE t.site = $1 AND t.datastore = $3 AND EXISTS \
       (SELECT 1 FROM baselines o WHERE o.site = $1 AND o.datastore = $2 AND o.path = t.path AND o.volume = t.volume)",
    "UPDATE baselines SET datastore = $3 WHERE site = $1 AND datastore = $2",
    "DELETE FROM locations AS t WHERE t.site = $1 AND t.datastore = $3 AND EXISTS \
       (SELECT 1 FROM locations o WHERE o.site = $1 AND o.datastore = $2 AND o.path = t.path)",
    "UPDATE locations SET datastore = $3 WHERE site = $1 AND datastore = $2",
    "DELETE FROM descriptors AS t WHERE t.site = $1 AND t.datastore = $3 AND EXISTS \
       (SELECT 1 FROM descriptors o WHERE o.site = $1 AND o.datastore = $2 AND o.path = t.path)",
    "UPDATE descriptors SET datastore = $3 WHERE site = $1 AND datastore = $2",
];

impl Catalog {
    /// Calls a datastore by its new name wherever the old one stands. What is recorded under the new name already gives
    /// way: it is the same place. One durable transaction. Versions keep the name that the datastore had then.
    ///
    /// # Errors
    /// `Database`.
    pub async fn rename_datastore(&self, site: &SiteName, from: &str, to: &str) -> Result<(), CatalogError> {
        let mut tx = self.write("renaming a datastore", format!("{}/{from}", site.0)).await?;
        for step in STEPS {
            let statement = sqlx::query(step).bind(&site.0).bind(from).bind(to);
            tx.execute(statement).await?;
        }
        tx.commit().await
    }
}

//! Tokens for the API: what `token` prints. A token itself is shown once, by `token create`.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use stackferry_catalog::{Role, TokenRow};
use stackferry_config::Secret;
use stackferry_problem::output::{Grid, Side, Style, View, fields};

/// What `token create` prints. `Debug` does not show the token.
#[derive(Debug, Clone, Serialize)]
pub struct NewTokenView {
    /// Its bearer.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// The token: shown once, kept nowhere.
    #[serde(serialize_with = "exposed")]
    pub token: Secret,
}

fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    secret.expose().serialize(serializer)
}

impl View for NewTokenView {
    fn table(&self, _style: &Style) -> String {
        fields([
            ("name", self.name.clone()),
            ("role", self.role.to_string()),
            ("token", self.token.expose().to_owned()),
        ])
    }
}

/// A token as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TokenView {
    /// Its public id, which the token itself contains.
    pub id: String,
    /// Its bearer.
    pub name: String,
    /// What its bearer may do: `viewer`, `operator` or `admin`.
    #[schema(value_type = String)]
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
    /// Since when it opens nothing any more.
    pub revoked: Option<Timestamp>,
}

impl From<TokenRow> for TokenView {
    fn from(row: TokenRow) -> Self {
        let TokenRow { id, name, role, created, last_used, revoked, .. } = row;
        Self { id, name, role, created, last_used, revoked }
    }
}

/// What `token list` prints: an array, the newest first. `token revoke` prints an array of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TokensView(pub Vec<TokenView>);

impl View for TokensView {
    fn table(&self, style: &Style) -> String {
        let mut grid = Grid::new(&[
            ("ID", Side::Left),
            ("NAME", Side::Left),
            ("ROLE", Side::Left),
            ("CREATED", Side::Left),
            ("LAST USED", Side::Left),
            ("REVOKED", Side::Left),
        ]);
        for row in &self.0 {
            grid.row([
                row.id.clone(),
                row.name.clone(),
                row.role.to_string(),
                style.time(row.created),
                style.maybe_time(row.last_used),
                style.maybe_time(row.revoked),
            ]);
        }
        grid.finish()
    }
}

//! blindread-lattice.

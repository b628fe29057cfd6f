"""The project's benchmark: `make bench`. How to run and read it: docs/bench/README.md."""

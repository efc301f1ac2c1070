"""The kinds of stages that a plan is made of: one class a kind, which knows its address, its inputs, its price and how it runs."""

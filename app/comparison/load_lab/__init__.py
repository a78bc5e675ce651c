"""The load lab: questions that come at their own pace, answered or not, and what became of them."""

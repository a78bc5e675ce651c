module loupe/templates

go 1.22

//go:build tools

// Package tools pins kwok: go.mod can only hold versions of modules that some file of this module imports.
package tools

import (
	_ "sigs.k8s.io/kwok/cmd/kwok"
)

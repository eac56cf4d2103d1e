package jinja

// stmt is a statement, or text between tags.
type stmt interface{}

type (
	textNode   struct{ text String }
	outputNode struct {
		line int
		expr expr
	}
	ifNode struct {
		line   int
		cases  []ifCase
		orElse []stmt
	}
	ifCase struct {
		cond expr
		body []stmt
	}
	forNode struct {
		line   int
		target target
		iter   expr
		cond   expr // or nil
		body   []stmt
		orElse []stmt
	}
	setNode struct {
		line   int
		target target
		value  expr
	}
	setBlockNode struct {
		line    int
		target  target
		filters []*filterExpr // in order; their operand is the body
		body    []stmt
	}
	filterBlockNode struct {
		line    int
		filters []*filterExpr
		body    []stmt
	}
	withNode struct {
		line    int
		targets []target
		values  []expr
		body    []stmt
	}
	generationNode struct{ body []stmt }
	macroNode      struct {
		line                    int
		name                    string // "" for a call block
		params                  []string
		defaults                []expr // of the last parameters
		body                    []stmt
		caller, kwargs, varargs bool // the body reads these names
	}
	callBlockNode struct {
		line int
		call *callExpr
		body *macroNode
	}
	breakNode    struct{}
	continueNode struct{}
)

// target is what a value is assigned to.
type target interface{}

type (
	nameTarget  string
	attrTarget  struct{ name, attr string } // of a namespace
	tupleTarget []target
)

// expr is an expression.
type expr interface{}

type (
	constExpr struct{ v Value }
	nameExpr  struct{ name string }
	listExpr  struct {
		items []expr
		tuple bool
	}
	dictExpr  struct{ keys, vals []expr }
	unaryExpr struct {
		op byte // '-', '+' or '!'
		x  expr
	}
	// chainExpr is a left-associative chain of operators of one precedence; a
	// flat one, so that a long sum is not a deep tree.
	chainExpr struct {
		first expr
		rest  []operand
	}
	concatExpr struct{ items []expr }
	logicExpr  struct {
		or    bool
		items []expr
	}
	compareExpr struct {
		first expr
		rest  []operand
	}
	operand struct {
		op string
		x  expr
	}
	condExpr struct {
		cond, then, orElse expr // orElse may be nil
		line               int
	}
	attrExpr struct {
		x    expr
		name string
	}
	indexExpr struct{ x, index expr }
	sliceExpr struct{ start, stop, step expr } // only as an index; each may be nil
	callExpr  struct {
		fn   expr
		args callArgs
	}
	filterExpr struct {
		x    expr // nil in a block
		name string
		def  *filter // nil if there is none of that name
		args callArgs
	}
	testExpr struct {
		x      expr
		name   string
		def    *test // nil if there is none of that name
		args   callArgs
		negate bool
	}
)

// callArgs are the arguments of a call as written.
type callArgs struct {
	pos      []expr
	names    []string // of named
	named    []expr
	star     expr // *star, or nil
	starStar expr // **starStar, or nil
}
